package client

import (
	"context"
	"fmt"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// serve handles the events of a connection, in order, until it ends. It also handles the frames
// that were queued when the connection was lost.
func (c *Client) serve(ctx context.Context, cn *conn) *ending {
	s := session{Client: c, readerDone: cn.readerDone}
	for {
		select {
		case <-ctx.Done():
			return &ending{err: ctx.Err()}
		case e := <-cn.events:
			switch {
			case ctx.Err() != nil: // select chooses at random if both are ready
				return &ending{err: ctx.Err()}
			case e.end != nil:
				return e.end
			case e.problem != nil:
				c.cfg.OnError(e.problem)
			default:
				if end := s.handle(ctx, e.frame); end != nil {
					return end
				}
			}
		}
	}
}

// session is the state of handling one connection's frames.
type session struct {
	*Client
	epoch      string
	live       bool
	readerDone <-chan struct{} // closed when the connection is lost
}

// failure counts the failures of OnMessage on one message.
type failure struct {
	epoch  string
	seq    uint64
	tries  int
	pauses time.Duration // total of the pauses between the attempts
}

// handle handles one frame. It returns an ending if OnMessage failed and must be called again.
func (s *session) handle(ctx context.Context, frame wire.Frame) *ending {
	switch f := frame.(type) {
	case wire.Ready:
		s.epoch = f.Epoch
		s.progress.ready(f)
		s.cfg.OnState(Replaying, nil)
		s.cfg.OnReady(f)
	case wire.Gap:
		s.cfg.OnGap(f)
		s.progress.gapHandled()
	case wire.Msg:
		if !s.progress.start(f.Seq) {
			return nil
		}
		return s.message(ctx, Message{Msg: f, Epoch: s.epoch, Replayed: !s.live})
	case wire.Live:
		// Not before live: otherwise a message that always fails, or a server that fails on one, would be
		// retried for ever at the rate of a first reconnect.
		s.back.reset()
		s.leaseRetried, s.live = false, true
		s.progress.advanceIdle(f.Seq)
		s.cfg.OnState(Live, nil)
		s.cfg.OnLive(f.Seq)
	case wire.Ping:
		s.progress.advanceIdle(f.Seq)
	case wire.Acked:
		s.cfg.OnAcked(f.Seq, f.Unread)
	}
	return nil
}

// message calls OnMessage, and skips a message on which it has failed often and long enough.
func (s *session) message(ctx context.Context, m Message) *ending {
	err := s.cfg.OnMessage(ctx, m)
	if err == nil {
		s.failed = failure{}
		s.progress.done(m.Seq, true)
		return nil
	}
	if s.failed.epoch != m.Epoch || s.failed.seq != m.Seq {
		s.failed = failure{epoch: m.Epoch, seq: m.Seq}
	}
	counts := s.connected() && ctx.Err() == nil
	if counts {
		s.failed.tries++
	}
	if !counts || s.cfg.Attempts < 0 || s.failed.tries < s.cfg.Attempts || s.failed.pauses < s.cfg.Patience {
		s.progress.done(m.Seq, false)
		return &ending{err: fmt.Errorf("OnMessage of seq %d: %w", m.Seq, err), handlerFailed: counts}
	}
	s.failed = failure{}
	s.progress.done(m.Seq, true)
	s.cfg.OnSkip(m, err)
	return nil
}

// connected reports whether the connection is still open for reading.
func (s *session) connected() bool {
	select {
	case <-s.readerDone:
		return false
	default:
		return true
	}
}
