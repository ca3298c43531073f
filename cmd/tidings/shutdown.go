package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams"
)

// hurry hears the signals to end, of which the first has the gateway drain. The second hurries that, and the third ends the process
// at once, as if there were nobody to hear it.
type hurry struct {
	context.Context // done when there is no more time
	signals         chan os.Signal
	stopped         chan struct{}
}

// newHurry hears signals until stop.
func newHurry() *hurry {
	ctx, now := context.WithCancel(context.Background())
	h := &hurry{Context: ctx, signals: make(chan os.Signal, 1), stopped: make(chan struct{})}
	signal.Notify(h.signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(h.stopped)
		defer now()
		for n := 1; ; n++ {
			if _, more := <-h.signals; !more {
				return
			}
			if n == 2 {
				signal.Stop(h.signals)
				now()
			}
		}
	}()
	return h
}

func (h *hurry) stop() {
	signal.Stop(h.signals)
	close(h.signals)
	<-h.stopped
}

// within is a context of so long a time or, once there is no more, of so much from then on.
func (h *hurry) within(patient, hurried time.Duration) (ctx context.Context, cancel func()) {
	ctx, over := context.WithTimeout(context.Background(), patient)
	unless := context.AfterFunc(h, func() { time.AfterFunc(hurried, over) })
	return ctx, func() {
		unless()
		over()
	}
}

// goodbyes is how long clients have at least to take theirs, and requests to be answered: a session waits for a second for a client that does
// not answer its close frame.
const goodbyes = 2 * time.Second

// hurried is how long positions may take to be committed then.
const hurried = 10 * time.Second

// shutdown ends what faces clients first, and what they need last. Each step is bounded.
func (o *gatewayOptions) shutdown(front *front, gateway *delivery.Gateway, cursors *streams.Cursors, hurry *hurry, parts func() error) error {
	gateway.Leave() // who sends clients here sees that first
	if o.drainDelay > 0 {
		select {
		case <-time.After(o.drainDelay):
		case <-hurry.Done():
		}
	}
	patient := max(o.drain, goodbyes)
	draining, cancel := hurry.within(patient, goodbyes)
	defer cancel()
	left := gateway.Drain(draining, hurry.Done()) // sessions end while their goodbyes can still be sent
	_ = front.Shutdown(draining)
	err := parts() // nothing moves a cursor any more …
	committing, cancel := hurry.within(patient, hurried)
	defer cancel()
	if flushed := cursors.Flush(committing); flushed != nil { // … and now they are committed
		flushed = fmt.Errorf("not all positions were committed, clients will see repeats: %w", flushed)
		err = errors.Join(err, flushed)
	}
	return errors.Join(err, left)
}
