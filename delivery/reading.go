package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// readLoop handles the client's frames until the connection ends. It begins while the session is opened, so that a client that leaves
// meanwhile is noticed.
func (c *socket) readLoop(ctx context.Context, s *session, o *opening) error {
	for {
		if o == nil {
			c.expect(ctx, s.g.silence())
		}
		frame, err := c.readFrame(ctx, s.g)
		if err != nil {
			return err
		}
		if o != nil {
			switch kept, err := o.keep(ctx, frame); {
			case err != nil:
				return err
			case kept:
				continue
			}
			o = nil
		}
		if _, ack := frame.(wire.Ack); !ack {
			s.heard()
		}
		switch f := frame.(type) {
		case wire.Ack:
			err = s.acknowledge(ctx, f.Seq)
		case wire.Renew:
			err = s.renew(ctx, f.Token)
		case wire.Auth:
			err = fmt.Errorf("%w: auth may come once; renew takes a fresh token", wire.ErrBadFrame)
		}
		if err != nil {
			return err
		}
	}
}

// acknowledge moves the user's position to seq, if that was sent.
func (s *session) acknowledge(ctx context.Context, seq uint64) error {
	if seq > s.sent.Load() {
		return s.tell(ctx, wire.Error{Code: wire.ErrorBadAck, Message: fmt.Sprintf("%d lies beyond what was sent", seq)})
	}
	s.answered(seq)
	if raise(&s.acked, seq) {
		s.g.metrics.acks.Inc()
		s.g.cfg.Cursors.Ack(s.cursor, s.epoch, seq)
	}
	return nil
}

// heard notes that a frame came that is no acknowledgement. It answers the oldest ping, or else the gap.
func (s *session) heard() {
	if s.pings.Load() > 0 { // the writer only adds
		s.pings.Add(-1)
	}
	if s.crossed.Load() > 0 {
		s.crossed.Add(-1)
		return
	}
	s.answered(math.MaxUint64)
}

// answered notes that the client has what was written up to seq. If a gap is, later connections need not report it.
func (s *session) answered(seq uint64) {
	if !s.has(seq) {
		return
	}
	if through := s.settles.Swap(0); through > 0 {
		s.g.cfg.Cursors.SettleGap(s.cursor, s.epoch, s.after, through)
	}
}

// has notes that the client has what was written up to seq, or need not have it, and reports whether that is a gap. An acknowledgement of
// what lies before a gap may have crossed it.
func (s *session) has(seq uint64) bool {
	owed := s.owed.Load()
	return owed > 0 && owed <= seq && s.owed.CompareAndSwap(owed, 0)
}

// silence is how long a client may send nothing once the session is open.
func (g *Gateway) silence() time.Duration { return g.cfg.Ping + g.cfg.PongWithin }

// expect sets how long the client may send nothing from now on; 0: as long as it likes. If ctx is done, reads end at once.
func (c *socket) expect(ctx context.Context, within time.Duration) {
	var deadline time.Time
	if within > 0 {
		deadline = time.Now().Add(within)
	}
	_ = c.SetReadDeadline(deadline)
	if ctx.Err() != nil { // its interrupt may have come before
		_ = c.SetReadDeadline(time.Now())
	}
}

// readFrame reads one frame; one of an unknown type is nil.
func (c *socket) readFrame(ctx context.Context, g *Gateway) (wire.Frame, error) {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, lost(ctx, err)
	}
	c.pace.charge(frameCosts)
	if kind != websocket.TextMessage {
		return nil, fmt.Errorf("%w: send text, not binary", wire.ErrBadFrame)
	}
	// Not by gorilla's read limit, which closes with 1009 and leaves no time to say more.
	buffer, _ := g.frames.Get().(*bytes.Buffer)
	if buffer == nil {
		buffer = &bytes.Buffer{}
	}
	defer g.frames.Put(buffer)
	buffer.Reset()
	if _, err := buffer.ReadFrom(io.LimitReader(r, g.cfg.MaxFrame+1)); err != nil {
		return nil, lost(ctx, err)
	}
	if int64(buffer.Len()) > g.cfg.MaxFrame {
		return nil, &closing{code: wire.CloseTooLarge, reason: fmt.Sprintf("a frame may have %d bytes", g.cfg.MaxFrame)}
	}
	if !utf8.Valid(buffer.Bytes()) {
		return nil, &closing{code: websocket.CloseInvalidFramePayloadData, reason: "invalid UTF-8"}
	}
	return wire.Decode(buffer.Bytes())
}

// lost says what an error of the socket means.
func lost(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isTimeout(err):
		return fmt.Errorf("%w: nothing was heard of the client in time", errTimeout)
	case errors.As(err, new(*closing)):
		return err
	case !isOfNetwork(err): // gorilla has mostly told the client, and the socket takes no second close frame
		return &closing{code: websocket.CloseProtocolError, reason: err.Error()}
	}
	return fmt.Errorf("%w: %w", errClientGone, err)
}

// isOfNetwork says whether an error of the socket is that it has ended, and not that the client broke RFC 6455.
func isOfNetwork(err error) bool {
	var network net.Error
	var closed *websocket.CloseError
	return errors.As(err, &network) || errors.As(err, &closed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// tell hands something to the writer: a frame, or new sources.
func (s *session) tell(ctx context.Context, what any) error {
	select {
	case s.control <- what:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
