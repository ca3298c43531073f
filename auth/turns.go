package auth

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"
)

// slots limits the requests in flight. Callers wait in one queue for each host, and a released slot
// goes to the hosts in turn. Otherwise one host whose requests are never answered could take all
// slots.
type slots struct {
	mu    sync.Mutex
	free  int                      // 0 while a caller waits
	hosts map[string]*list.Element // elements of ring
	ring  list.List                // of *hostQueue, the next to be served first
}

// hostQueue holds the callers of one host, in order of arrival. It is removed when it is empty.
type hostQueue struct {
	host    string
	waiting list.List // of chan struct{}, closed when the caller gets its slot
}

// acquire waits for a slot until a deadline or the end of ctx. If it succeeds, call release.
func (t *slots) acquire(ctx context.Context, until time.Time, host string) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	granted := make(chan struct{})
	at, ok := t.hosts[host]
	if !ok {
		at = t.ring.PushBack(&hostQueue{host: host})
		t.hosts[host] = at
	}
	place := at.Value.(*hostQueue).waiting.PushBack(granted)
	t.mu.Unlock()

	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-granted: // assigned in the meantime
		return nil
	default:
		t.remove(at, place)
		return ErrBusy
	}
}

// release returns a slot.
func (t *slots) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.ring.Front()
	if next == nil {
		t.free++
		return
	}
	t.ring.MoveToBack(next)
	first := next.Value.(*hostQueue).waiting.Front()
	t.remove(next, first)
	close(first.Value.(chan struct{}))
}

func (t *slots) remove(at, place *list.Element) {
	l := at.Value.(*hostQueue)
	if l.waiting.Remove(place); l.waiting.Len() == 0 {
		t.ring.Remove(at)
		delete(t.hosts, l.host)
	}
}

// hostOf returns the host of an address with or without a port. For IPv6 it is the first 64 bits,
// because a client that has one address of such a network usually has all. A loopback address
// belongs to a proxy or to a program on this machine and says nothing about the client, so there
// each connection counts as a host.
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
		network, _ := a.Prefix(64) // never fails for IPv6
		return network.String()
	}
	return a.String()
}
