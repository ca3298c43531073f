package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// errUnsound says that NATS was away meanwhile: what came back may be another stream.
var errUnsound = fmt.Errorf("NATS was away meanwhile: %w", nats.ErrDisconnected)

// ask makes a request of NATS, and fails at once with errUnsound where the connection breaks: the answer is lost then, and nats.go
// would wait for it to the end. The request may have been carried out.
func (s *Stream) ask(ctx context.Context, request func(ctx context.Context) error) error {
	broken := s.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED)
	defer s.nc.RemoveStatusListener(broken)
	try, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- request(try) }()
	select {
	case err := <-answered:
		return err
	case <-broken:
	}
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		return err // it came in time
	}
	return errUnsound
}

// askAgain is ask for a request that does no harm when it is made twice: it is made again where the connection breaks, and
// answered as soon as that is back.
func (s *Stream) askAgain(ctx context.Context, request func(ctx context.Context) error) error {
	for {
		if err := s.ask(ctx, request); ctx.Err() != nil || !errors.Is(err, errUnsound) {
			return err
		}
	}
}

// pause waits so long, or until ctx is done, which is the error then.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
