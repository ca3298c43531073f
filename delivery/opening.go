package delivery

import (
	"context"
	"sync"

	"github.com/tidings-io/tidings/delivery/wire"
)

// opening holds what a client sends between its auth frame and ready.
type opening struct {
	over chan struct{} // closed once ready is written and acks are handled

	mu   sync.Mutex
	acks []uint64
}

// earlyAcks is how many acknowledgements are held. Behind them, and behind a token, nothing is read before ready.
const earlyAcks = 32

// keep holds an acknowledgement until ready is written, and drops what says nothing by then: a pong, which answers no ping of ours, and
// frames of unknown types. If it reports false, the session is open, and the frame is for the caller to handle.
func (o *opening) keep(ctx context.Context, f wire.Frame) (kept bool, err error) {
	if o.hold(f) {
		return true, nil
	}
	select {
	case <-o.over:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func (o *opening) hold(f wire.Frame) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.over:
		return false
	default:
	}
	switch f := f.(type) {
	case wire.Renew, wire.Auth:
		return false
	case wire.Ack:
		if len(o.acks) == earlyAcks {
			return false
		}
		o.acks = append(o.acks, f.Seq)
	}
	return true
}

// end handles the acknowledgements that came early. The writer must run by then. They count even if the client has left meanwhile.
func (o *opening) end(ctx context.Context, s *session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer close(o.over)
	for _, seq := range o.acks {
		_ = s.acknowledge(ctx, seq) // an error says that there is nobody to send bad_ack to
	}
}
