package bench

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// fleet is many users, each with one connection or none.
type fleet struct {
	url     string
	id      string // of the site
	clients []*client
	dialer  websocket.Dialer
	dialing chan struct{} // bounds handshakes: the kernel keeps so many connections for a listener and drops the next for a second

	// Set between connects.
	acks   acks
	resume bool // clients say where they were, as ours do
	timed  bool // latencies are kept

	received atomic.Int64 // messages of the site, each once
	again    atomic.Int64 // connects that were told to come again
	cutOff   chan error   // the first that lost its connection
	running  sync.WaitGroup
}

const handshakes = 1000

func newFleet(url, id string, users []string) *fleet {
	f := &fleet{
		url: url + wire.Path, id: id, dialing: make(chan struct{}, handshakes), cutOff: make(chan error, 1),
		// Small buffers, and those for writing shared, and no keep-alives to set: 10,000 connections are to cost the driver little.
		dialer: websocket.Dialer{
			NetDialContext:   (&net.Dialer{KeepAlive: -1}).DialContext,
			HandshakeTimeout: time.Minute, ReadBufferSize: 1 << 10, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{},
			Subprotocols: []string{wire.Subprotocol},
		},
	}
	for _, user := range users {
		f.clients = append(f.clients, &client{fleet: f, user: user})
	}
	return f
}

// connect has all come, so many on their way at a time, and returns how long it took until the last was live.
func (f *fleet) connect(ctx context.Context, atOnce int) (time.Duration, error) {
	began := time.Now()
	way := make(chan struct{}, atOnce)
	live := make(chan error, len(f.clients))
	for _, c := range f.clients {
		select {
		case way <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		c.leaving = false
		f.running.Go(func() {
			err := c.come(ctx)
			<-way
			live <- err
			if err == nil {
				err = c.listen()
			}
			if err != nil {
				select {
				case f.cutOff <- err:
				default:
				}
			}
		})
	}
	for range f.clients {
		select {
		case err := <-live:
			if err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return time.Since(began), nil
}

// await waits until so many messages of each user have come, and returns when the last of them did. Where nothing comes any more
// it does not wait for ever: what is missing is found by tally.
func (f *fleet) await(ctx context.Context, each int) (time.Time, error) {
	want, had, since := int64(each*len(f.clients)), int64(-1), time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		have := f.received.Load()
		if have != had {
			had, since = have, time.Now()
		}
		if have >= want || time.Since(since) > silence {
			return f.lastAt(), nil
		}
		select {
		case <-tick.C:
		case err := <-f.cutOff:
			return time.Time{}, err
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

func (f *fleet) lastAt() time.Time {
	last := int64(math.MinInt64)
	for _, c := range f.clients {
		last = max(last, c.lastAt.Load())
	}
	return time.Unix(0, last)
}

// leave ends all connections and waits until they have ended.
func (f *fleet) leave() {
	var all sync.WaitGroup
	for _, c := range f.clients {
		all.Go(c.leave)
	}
	all.Wait()
	f.running.Wait()
}

// all are the latencies of all clients. They must have left.
func (f *fleet) all() (all latencies) {
	for _, c := range f.clients {
		all = append(all, c.latencies...)
	}
	return all
}

// tally adds what was wrong to the report: each client should have had so many messages, and each once. They must have left.
func (b *bench) tally(f *fleet, each int) {
	const told = 10
	for _, c := range f.clients {
		faults := Faults{Lost: c.got.lost(each), Repeated: c.got.repeated, OutOfOrder: max(c.got.late, c.disorder), Gaps: c.gaps}
		if !faults.Any() {
			continue
		}
		total := &b.report.Faults
		total.Lost += faults.Lost
		total.Repeated += faults.Repeated
		total.OutOfOrder += faults.OutOfOrder
		total.Gaps += faults.Gaps
		if len(b.report.Details) < told {
			b.report.Details = append(b.report.Details, fmt.Sprintf("%s: of %d messages to %s %s", b.progress.Scenario, each, c.user, faults))
		}
	}
	if n := f.again.Load(); n > 0 {
		b.note("connections that were refused or cut off while they came, and came again: %d", n)
	}
}
