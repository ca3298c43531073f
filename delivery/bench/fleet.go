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

// fleet is a set of users, each with at most one connection.
type fleet struct {
	url     string
	id      string // of the site
	clients []*client
	dialer  websocket.Dialer
	dialing chan struct{} // limits concurrent handshakes, see maxHandshakes

	// Set only while no client is connected.
	acks   acks
	resume bool // clients send their position, like package client
	timed  bool // latencies are recorded

	received atomic.Int64 // messages of the site, without repeated ones
	retries  atomic.Int64 // connection attempts after a failure
	cutOff   chan error   // the first lost connection
	running  sync.WaitGroup
}

// maxHandshakes is the maximum number of concurrent handshakes. The kernel queues about that many connections for a
// listener. If the queue is full, it drops packets, and the client tries again a second later.
const maxHandshakes = 1000

func newFleet(url, id string, users []string) *fleet {
	f := &fleet{
		url: url + wire.Path, id: id, dialing: make(chan struct{}, maxHandshakes), cutOff: make(chan error, 1),
		// Small buffers, shared write buffers and no keep-alives, so that 10,000 connections cost this process little.
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

// connect connects all clients, at most atOnce concurrently, and returns the time until the last one was live.
func (f *fleet) connect(ctx context.Context, atOnce int) (time.Duration, error) {
	began := time.Now()
	slots := make(chan struct{}, atOnce)
	live := make(chan error, len(f.clients))
	for _, c := range f.clients {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		c.leaving = false
		f.running.Go(func() {
			err := c.connectUntilLive(ctx)
			<-slots
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

// await waits until each user has received the given number of messages, and returns when the last of them arrived. If
// no message arrives for a while, it returns without an error; tally then counts the missing ones.
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

// all returns the latencies of all clients. It must be called after leave.
func (f *fleet) all() (all latencies) {
	for _, c := range f.clients {
		all = append(all, c.latencies...)
	}
	return all
}

// tally adds faults to the report: each client should have received messages 1 to each exactly once. It must be called
// after leave.
func (b *bench) tally(f *fleet, each int) {
	const maxDetails = 10
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
		if len(b.report.Details) < maxDetails {
			b.report.Details = append(b.report.Details, fmt.Sprintf("%s: of %d messages to %s: %s", b.progress.Scenario, each, c.user, faults))
		}
	}
	if n := f.retries.Load(); n > 0 {
		b.note("connection attempts that were refused or interrupted and then retried: %d", n)
	}
}
