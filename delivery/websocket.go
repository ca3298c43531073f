package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// socket is the line to a client that speaks tidings.v1 over a WebSocket.
type socket struct {
	*cork
	ws       *websocket.Conn
	offered  bool        // the client named subprotocols
	controls int         // pings and pongs that came before ready
	trusted  atomic.Bool // ready was written
	cookie   string
}

func (g *Gateway) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) { // RFC 6455, 4.2.1: gorilla would upgrade it
		writeProblem(w, problemf(http.StatusBadRequest, "a WebSocket begins with HTTP/1.1: see that a proxy between speaks it too"))
		return
	}
	if !g.allowed(r) {
		writeProblem(w, g.refusedOrigin(r))
		return
	}
	if err := g.enter(r); err != nil {
		writeProblem(w, err)
		return
	}
	corked := &corking{ResponseWriter: w, pool: &g.held}
	ws, err := g.upgrader.Upgrade(corked, r, nil)
	if err != nil { // the client has its answer
		g.leave(r.RemoteAddr, false)
		g.log.Debug().Err(err).Str("remote", r.RemoteAddr).Str("origin", r.Header.Get("Origin")).Msg("not upgraded")
		return
	}
	g.made.Add(1)
	c := &socket{cork: corked.cork, ws: ws, offered: len(websocket.Subprotocols(r)) > 0, cookie: g.cookie(r)}
	s := newSession(g, c, r)
	clear(r.Header) // the server keeps the request until the client has sent its auth frame
	c.serve(g.ctx, s, func() { s.g.leave(s.request.RemoteAddr, s.entered) })
}

// serve greets the client and has goroutines serve it: one that reads, and one that opens the session. After that one writes, with a stack that
// has not yet grown. It returns once the client has sent its auth frame, or was refused; done is called at the connection's end.
func (c *socket) serve(ctx context.Context, s *session, done func()) {
	ctx, over := s.begin(ctx)
	c.throttle(s.g, ctx.Done())
	first, err := c.greet(ctx, s)
	if err != nil {
		over(err)
		done()
		return
	}
	c.expect(ctx, 0) // opening has a time limit of its own
	opening := &opening{over: make(chan struct{})}
	written := make(chan struct{}) // closed when nothing is written any more
	opened := make(chan struct{})  // closed when early acknowledgements are handled, or the client was refused
	go func() {
		defer done()
		err := c.readLoop(ctx, s, opening)
		s.cancel(err)
		<-opened
		<-written
		over(err)
	}()
	go func() { // not this goroutine: its stack is large by now, and what the server keeps of the request goes with it
		defer close(opened)
		if err := s.open(ctx, first); err != nil {
			s.cancel(writeError(ctx, err))
			close(written)
			return
		}
		c.trust(s.g)
		c.expect(ctx, s.g.silence())
		go func() {
			defer close(written)
			s.cancel(writeError(ctx, s.writeLoop(ctx)))
		}()
		opening.end(ctx, s)
	}()
}

// writeError returns err. If gorilla has sent a close frame, the reader reports in a moment why, and writeError waits for that.
func writeError(ctx context.Context, err error) error {
	if errors.Is(err, websocket.ErrCloseSent) {
		<-ctx.Done()
	}
	return err
}

// greet writes hello and returns the client's auth frame.
func (c *socket) greet(ctx context.Context, s *session) (first wire.Auth, err error) {
	if c.offered && c.ws.Subprotocol() == "" {
		return first, &closing{code: wire.CloseNoProtocol, reason: "offer the subprotocol " + wire.Subprotocol}
	}
	if err := s.write(wire.Hello{Protocol: wire.Subprotocol, AuthWithin: s.g.cfg.AuthWithin.Milliseconds()}); err != nil {
		return first, err
	}
	if err := s.flush(); err != nil {
		return first, err
	}
	c.expect(ctx, max(time.Nanosecond, s.g.cfg.AuthWithin-time.Since(s.began)))
	frame, err := c.readFrame(ctx, s.g)
	if err != nil {
		return first, err
	}
	first, ok := frame.(wire.Auth)
	if !ok {
		return first, fmt.Errorf("%w: the first must be auth", wire.ErrBadFrame)
	}
	first.Token = cmp.Or(first.Token, c.cookie)
	c.cookie = ""
	return first, nil
}

func (c *socket) write(frame []byte, _ uint64) error {
	c.hold()
	if err := c.ws.WriteMessage(websocket.TextMessage, frame); err != nil { // it has been closed
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

func (c *socket) interrupt(until time.Time) {
	_ = c.SetReadDeadline(time.Now())
	c.cork.interrupt(until)
}

// close is what line says. A socket that is closed with unread data in it is reset, and the client would not see the close frame.
func (c *socket) close(why *closing, until time.Time) {
	defer func() { _ = c.ws.Close() }()
	if why == nil {
		_ = c.flush(until, 0) // gorilla has answered the client's close
		return
	}
	if retry := why.retry(); retry > 0 {
		_ = c.write(wire.Append(nil, wire.Goaway{Code: why.code, Reason: why.reason, RetryAfter: retry.Milliseconds()}), 0)
	}
	c.hold()
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(why.code), clip(why.reason, mostReason)), time.Time{})
	if c.flush(until, 0) != nil {
		return
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.SetReadDeadline(until)
	_, _ = io.CopyN(io.Discard, c.Conn, discardMost)
}

// discardMost of what a client sends before it has heard of its end: who floods is not read for longer.
const discardMost = 1 << 20

// mostReason is the bytes of a close frame's reason (RFC 6455, 5.5.1).
const mostReason = 123
