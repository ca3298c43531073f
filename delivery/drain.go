package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// everyone is all sessions, those too that have not said whose they are, and how they end together.
type everyone struct {
	count    sync.WaitGroup // from before the upgrade to the end
	mu       sync.Mutex     // orders count.Add before the Wait of Drain
	leaving  bool
	draining bool
	sessions map[*session]struct{}
}

// begin counts a session, unless the gateway is draining.
func (e *everyone) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.draining {
		return false
	}
	e.count.Add(1)
	return true
}

// done takes back begin.
func (e *everyone) done() { e.count.Done() }

func (e *everyone) enter(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sessions[s] = struct{}{}
}

func (e *everyone) leave(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s)
}

// drain refuses who comes from now on, and returns who is there, in random order.
func (e *everyone) drain() (there []*session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leaving, e.draining = true, true
	for s := range e.sessions {
		there = append(there, s)
	}
	rand.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
	return there
}

// The pace of a drain: so many connections a second at least, looked at so often.
const (
	drainLeast = 100
	drainTick  = 10 * time.Millisecond
)

// drainSpan is how long it takes to close n connections, within so much time in all. The last have a second to take their goodbye,
// and there is one to spare.
func drainSpan(n int, within time.Duration) time.Duration {
	return max(0, min(within-2*goodbye, time.Duration(n)*time.Second/drainLeast))
}

// Leave has the gateway say that it is not ready, while it still serves, and takes clients from who has not heard that.
func (g *Gateway) Leave() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	g.all.leaving = true
}

// Drain takes no more connections, and closes those there are one after another, in random order, spread over Config.Drain: whoever
// takes them over is not to have all of them at once. Each client is told to come again. It returns when all are gone, with an error
// when ctx is done before. What is left when hurry is closed ends at once; nil: nothing hurries.
func (g *Gateway) Drain(ctx context.Context, hurry <-chan struct{}) error {
	there := g.all.drain()
	gone := make(chan struct{})
	go func() {
		g.all.count.Wait()
		close(gone)
	}()
	g.endInTurn(ctx, there, gone, hurry)
	g.end(g.closed()) // those too that were on their way in
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("some connections did not end in time: %w", ctx.Err())
	}
}

func (g *Gateway) endInTurn(ctx context.Context, there []*session, gone, hurry <-chan struct{}) {
	began, n, span := time.Now(), len(there), drainSpan(len(there), g.cfg.Drain)
	if span == 0 { // no time to spread them: what spreads is when they come again
		return
	}
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for len(there) > 0 {
		due := n
		if since := time.Since(began); since < span {
			due = int(int64(n) * int64(since) / int64(span))
		}
		for n-len(there) < due {
			there[0].end(&closing{code: wire.CloseDraining, reason: "draining", retryAfter: time.Second / 10, spread: time.Second})
			there = there[1:]
		}
		select {
		case <-tick.C:
		case <-gone:
			return
		case <-hurry:
			return
		case <-ctx.Done():
			return
		}
	}
}

// closed is why there are no more connections.
func (g *Gateway) closed() *closing {
	return &closing{code: wire.CloseDraining, reason: "draining", spread: g.cfg.Drain}
}
