package client

import (
	"context"
	"fmt"

	"github.com/tidings-io/tidings/delivery/wire"
)

// serve handles what a connection brings, in order, until it ends. What was queued when it was lost is handled too.
func (c *Client) serve(ctx context.Context, cn *conn) *ending {
	s := session{Client: c}
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
				if err := s.handle(ctx, e.frame); err != nil {
					return &ending{err: err}
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
}

// handle handles one frame. An error is OnMessage's.
func (s *session) handle(ctx context.Context, frame wire.Frame) error {
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
		err := s.cfg.OnMessage(ctx, Message{Msg: f, Epoch: s.epoch, Replayed: !s.live})
		s.progress.done(f.Seq, err == nil)
		if err != nil {
			return fmt.Errorf("OnMessage of seq %d: %w", f.Seq, err)
		}
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
