package client

import (
	"context"
	"fmt"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// serve handles what a connection brings, in order, until it ends. What was queued when it was lost is handled too.
func (c *Client) serve(ctx context.Context, cn *conn) *ending {
	s := session{Client: c, over: cn.over}
	for {
		select {
		case <-ctx.Done():
			return &ending{err: ctx.Err()}
		case e := <-cn.events:
			switch {
			case ctx.Err() != nil: // both were there
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

// session is what the handling of one connection's frames remembers.
type session struct {
	*Client
	epoch string
	live  bool
	over  <-chan struct{} // closed when the connection is lost
}

// failure is of OnMessage, with the message of that epoch and seq.
type failure struct {
	epoch  string
	seq    uint64
	tries  int
	pauses time.Duration // between them
}

// handle handles one frame. It returns an ending if OnMessage fails and is to be called again.
func (s *session) handle(ctx context.Context, frame wire.Frame) *ending {
	switch f := frame.(type) {
	case wire.Ready:
		s.epoch = f.Epoch
		s.progress.ready(f)
		s.cfg.OnState(Replaying, nil)
		s.cfg.OnReady(f)
	case wire.Gap:
		s.cfg.OnGap(f)
		s.progress.heard()
	case wire.Msg:
		if !s.progress.give(f.Seq) {
			return nil
		}
		return s.message(ctx, Message{Msg: f, Epoch: s.epoch, Replayed: !s.live})
	case wire.Live:
		// Only here, with all that was missed handled: a message that cannot be handled, or a server that fails on one,
		// must not be tried at the pace of a first reconnect for ever.
		s.back.reset()
		s.hurried, s.live = false, true
		s.progress.pass(f.Seq)
		s.cfg.OnState(Live, nil)
		s.cfg.OnLive(f.Seq)
	case wire.Ping:
		s.progress.pass(f.Seq)
	case wire.Acked:
		s.cfg.OnAcked(f.Seq, f.Unread)
	}
	return nil
}

// message has OnMessage handle a message, and skips one that it has failed on often and long enough.
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
		return &ending{err: fmt.Errorf("OnMessage of seq %d: %w", m.Seq, err), failed: counts}
	}
	s.failed = failure{}
	s.progress.done(m.Seq, true)
	s.cfg.OnSkip(m, err)
	return nil
}

func (s *session) connected() bool {
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}
