package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/wire"
)

// errBinary reports a binary message; every frame of tidings.v1 is text.
var errBinary = errors.New("protocol error: binary message")

// read runs in the reader goroutine. It does what must not wait for a busy handler, and queues the
// rest. Its last event says why it ended. After ctx is done it keeps reading, and discards the
// frames, until the connection is closed.
func (c *conn) read(ctx context.Context) {
	for {
		frame, err := c.next()
		var end *ending
		if err != nil {
			end = c.readFailed(err)
		} else {
			end = c.receive(ctx, frame)
		}
		if end != nil {
			c.push(ctx, event{end: end})
			return
		}
	}
}

// next reads one frame. The read deadline moves with every part that arrives, so that a large frame
// on a slow network does not count as silence. The deadline does not run while the reader waits for
// room in the queue.
func (c *conn) next() (wire.Frame, error) {
	c.extendDeadline()
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, errBinary
	}
	c.buf.Reset()
	if _, err := c.buf.ReadFrom(deadlineReader{c, r}); err != nil {
		return nil, err
	}
	return wire.Decode(c.buf.Bytes())
}

func (c *conn) extendDeadline() { _ = c.ws.SetReadDeadline(time.Now().Add(c.silence)) } // if it fails, so does the read

type deadlineReader struct {
	c *conn
	r io.Reader
}

func (e deadlineReader) Read(p []byte) (int, error) {
	e.c.extendDeadline()
	return e.r.Read(p)
}

// receive does what the reader must do for a frame.
func (c *conn) receive(ctx context.Context, frame wire.Frame) *ending {
	switch f := frame.(type) {
	case wire.Hello:
		if f.Protocol != wire.Subprotocol {
			return closed(wire.CloseNoProtocol, "the server uses another protocol")
		}
	case wire.Ready:
		if c.admitted {
			return c.protocolError("second ready")
		}
		c.admitted = true
		if f.Ping > 0 {
			ping := bounded(f.Ping, time.Millisecond)
			c.silence = ping + c.cfg.Grace
			c.pongEvery = ping / 5 // the server waits less than a ping interval for an answer: 10 s of 25 s by default
		}
		c.push(ctx, event{frame: f})
	case wire.Ping:
		c.write(wire.Pong{})
		if c.admitted && f.Seq > 0 {
			c.push(ctx, event{frame: f})
		}
	case wire.Expiring:
		c.renew(ctx, 0)
	case wire.Error:
		if f.Code == wire.ErrorRenewUnavailable {
			c.renew(ctx, 10*c.cfg.MinBackoff)
		}
		c.push(ctx, event{problem: fmt.Errorf("the server reports %s: %s", c.redact(f.Code), c.redact(f.Message))})
	case wire.Goaway:
		c.goaway = &f
	case wire.Gap, wire.Msg, wire.Live, wire.Acked:
		if !c.admitted {
			return c.protocolError(f.Type() + " before ready")
		}
		c.push(ctx, event{frame: f})
	}
	return nil
}

// push queues an event. While the queue is full, the client reads nothing and answers no pings, and
// the server could consider it dead. So push sends an unrequested pong now and then.
func (c *conn) push(ctx context.Context, e event) {
	select {
	case c.events <- e:
		return
	default:
	}
	keepAlive := time.NewTicker(c.pongEvery)
	defer keepAlive.Stop()
	for {
		select {
		case c.events <- e:
			return
		case <-keepAlive.C:
			c.write(wire.Pong{})
		case <-ctx.Done():
			return
		}
	}
}

// protocolError ends the connection because the server violated the protocol. The client
// reconnects.
func (c *conn) protocolError(how string) *ending {
	c.sendClose(websocket.CloseProtocolError)
	return &ending{err: fmt.Errorf("protocol error: %s", how)}
}

// readFailed returns the ending for a failed read. A close frame takes precedence over a goaway
// frame, and both over the error.
func (c *conn) readFailed(err error) *ending {
	var end *ending
	var frame *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &frame) && frame.Code != websocket.CloseNoStatusReceived && frame.Code != websocket.CloseAbnormalClosure:
		reason := frame.Text
		if reason == "" && c.goaway != nil {
			reason = c.goaway.Reason
		}
		end = closed(wire.CloseCode(frame.Code), c.redact(reason))
	case errors.Is(err, websocket.ErrReadLimit):
		end = closed(websocket.CloseMessageTooBig, fmt.Sprintf("frame larger than %d bytes (raise Config.MaxFrame)", c.cfg.MaxFrame))
	case errors.Is(err, errBinary):
		c.sendClose(websocket.CloseUnsupportedData)
		end = &ending{err: err}
	case errors.Is(err, wire.ErrBadFrame):
		end = c.protocolError(err.Error())
	case c.goaway != nil:
		end = closed(c.goaway.Code, c.redact(c.goaway.Reason))
	case c.writeFailure() != nil:
		end = &ending{err: fmt.Errorf("connection lost: %w", c.writeFailure())}
	case errors.As(err, &timeout) && timeout.Timeout():
		end = &ending{err: fmt.Errorf("connection lost: nothing arrived for %v", c.silence)}
	default:
		end = &ending{err: fmt.Errorf("connection lost: %w", err)}
	}
	if c.goaway != nil {
		end.wait = bounded(c.goaway.RetryAfter, time.Millisecond)
	}
	return end
}
