package auth

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"
)

// turns are the slots of questions on their way. Those who wait for one stand in a line for each host, and a slot that is given back goes
// to the hosts in turn, or one that asks what is never answered would keep all others out.
type turns struct {
	mu    sync.Mutex
	free  int                      // none while somebody waits
	hosts map[string]*list.Element // of ring
	ring  list.List                // of *line, the next first
}

// line is who waits behind one host, who came first first. It is gone when nobody does.
type line struct {
	host    string
	waiting list.List // of chan struct{}, closed when the turn has come
}

// take waits for a slot, until a time, and is to be followed by give unless it fails.
func (t *turns) take(ctx context.Context, until time.Time, host string) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	at, ok := t.hosts[host]
	if !ok {
		at = t.ring.PushBack(&line{host: host})
		t.hosts[host] = at
	}
	place := at.Value.(*line).waiting.PushBack(turn)
	t.mu.Unlock()

	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came meanwhile
		return nil
	default:
		t.remove(at, place)
		return ErrBusy
	}
}

// give gives a slot back.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.ring.Front()
	if next == nil {
		t.free++
		return
	}
	t.ring.MoveToBack(next)
	first := next.Value.(*line).waiting.Front()
	t.remove(next, first)
	close(first.Value.(chan struct{}))
}

func (t *turns) remove(at, place *list.Element) {
	l := at.Value.(*line)
	if l.waiting.Remove(place); l.waiting.Len() == 0 {
		t.ring.Remove(at)
		delete(t.hosts, l.host)
	}
}

// hostOf is who asks, as far as an address with or without a port tells it: of IPv6 the first 64 bits, since whoever has one of them has
// all. A loopback address is a proxy's, or a program's on this machine, and says nothing: there each connection is a host of its own.
func hostOf(remote string) string {
	a, err := netip.ParseAddr(remote)
	if err != nil {
		withPort, err := netip.ParseAddrPort(remote)
		if err != nil {
			return remote
		}
		a = withPort.Addr()
	}
	a = a.Unmap()
	if a.IsLoopback() {
		return remote
	}
	if a.Is6() {
		network, _ := a.Prefix(64) // of IPv6 never fails
		return network.String()
	}
	return a.String()
}
