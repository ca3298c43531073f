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

// hurry counts the signals to stop. The first signal starts the drain, the second one shortens it, and the third one kills the process, since
// it is no longer caught.
type hurry struct {
	context.Context // done at the second signal
	signals         chan os.Signal
	stopped         chan struct{}
}

// newHurry counts signals from now on, until stop.
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

// within returns a context that expires after patient, or after hurried from the second signal on, whichever comes first.
func (h *hurry) within(patient, hurried time.Duration) (ctx context.Context, cancel func()) {
	ctx, over := context.WithTimeout(context.Background(), patient)
	unless := context.AfterFunc(h, func() { time.AfterFunc(hurried, over) })
	return ctx, func() {
		unless()
		over()
	}
}

// minDrain is the minimum time for clients to receive their close frame, and for requests to finish. A session waits one second for a client
// that does not answer its close frame.
const minDrain = 2 * time.Second

// hurriedCommit is how long committing positions may take after the second signal.
const hurriedCommit = 10 * time.Second

// shutdown stops first what serves clients, and then what they depend on. Each step is bounded.
func (o *gatewayOptions) shutdown(front *front, gateway *delivery.Gateway, cursors *streams.Cursors, hurry *hurry, parts func() error) error {
	gateway.Leave() // /readyz fails first, so that load balancers stop sending clients here
	if o.drainDelay > 0 {
		select {
		case <-time.After(o.drainDelay):
		case <-hurry.Done():
		}
	}
	patient := max(o.drain, minDrain)
	draining, cancel := hurry.within(patient, minDrain)
	defer cancel()
	drained := gateway.Drain(draining, hurry.Done()) // before front.Shutdown, while close frames can still be sent
	_ = front.Shutdown(draining)
	err := parts() // after this no position changes any more, so that Flush commits the last ones
	committing, cancel := hurry.within(patient, hurriedCommit)
	defer cancel()
	if flushed := cursors.Flush(committing); flushed != nil {
		flushed = fmt.Errorf("not all positions were committed, clients will see repeats: %w", flushed)
		err = errors.Join(err, flushed)
	}
	return errors.Join(err, drained)
}
