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

// errBinary is a message that is not text; every frame of tidings.v1 is.
var errBinary = errors.New("protocol error: a binary message")

// read is the reader goroutine: it does what must not wait for a busy handler, and queues the rest. The last event is why
// it ended. Once ctx is done it reads on, for nobody, until the connection is closed.
func (c *conn) read(ctx context.Context) {
	for {
		frame, err := c.next()
		var end *ending
		if err != nil {
			end = c.ended(err)
		} else {
			end = c.receive(ctx, frame)
		}
		if end != nil {
			c.push(ctx, event{end: end})
			return
		}
	}
}

// next reads one frame. The deadline moves with every part that arrives, so that a large frame on a slow line is not taken
// for silence, and does not run while the reader waits for the handler.
func (c *conn) next() (wire.Frame, error) {
	c.expect()
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, errBinary
	}
	c.buf.Reset()
	if _, err := c.buf.ReadFrom(expectant{c, r}); err != nil {
		return nil, err
	}
	return wire.Decode(c.buf.Bytes())
}

func (c *conn) expect() { _ = c.ws.SetReadDeadline(time.Now().Add(c.silence)) } // a failure shows in the read

type expectant struct {
	c *conn
	r io.Reader
}

func (e expectant) Read(p []byte) (int, error) {
	e.c.expect()
	return e.r.Read(p)
}

// receive does the reader's part of a frame.
func (c *conn) receive(ctx context.Context, frame wire.Frame) *ending {
	switch f := frame.(type) {
	case wire.Hello:
		if f.Protocol != wire.Subprotocol {
			return closed(wire.CloseNoProtocol, "the server speaks another protocol")
		}
	case wire.Ready:
		if c.admitted {
			return c.broken("a second ready")
		}
		c.admitted = true
		if f.Ping > 0 {
			ping := bounded(f.Ping, time.Millisecond)
			c.silence = ping + c.cfg.Grace
			c.alive = ping / 5 // the server waits for an answer less long than between pings: 10 s of 25 s by default
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
		c.push(ctx, event{problem: fmt.Errorf("the server reports %s: %s", c.clean(f.Code), c.clean(f.Message))})
	case wire.Goaway:
		c.goaway = &f
	case wire.Gap, wire.Msg, wire.Live, wire.Acked:
		if !c.admitted {
			return c.broken(f.Type() + " before ready")
		}
		c.push(ctx, event{frame: f})
	}
	return nil
}

// push queues an event. While the queue is full nothing is read, and the server may think the client dead: a pong that
// nobody asked for now and then tells it otherwise.
func (c *conn) push(ctx context.Context, e event) {
	select {
	case c.events <- e:
		return
	default:
	}
	sign := time.NewTicker(c.alive)
	defer sign.Stop()
	for {
		select {
		case c.events <- e:
			return
		case <-sign.C:
			c.write(wire.Pong{})
		case <-ctx.Done():
			return
		}
	}
}

// broken ends the connection for what the server did wrong. The next one may fare better.
func (c *conn) broken(how string) *ending {
	c.sendClose(websocket.CloseProtocolError)
	return &ending{err: fmt.Errorf("protocol error: %s", how)}
}

// ended is the ending by a failed read. A close frame says most, then a goaway, then the error.
func (c *conn) ended(err error) *ending {
	var end *ending
	var frame *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &frame) && frame.Code != websocket.CloseNoStatusReceived && frame.Code != websocket.CloseAbnormalClosure:
		reason := frame.Text
		if reason == "" && c.goaway != nil {
			reason = c.goaway.Reason
		}
		end = closed(wire.CloseCode(frame.Code), c.clean(reason))
	case errors.Is(err, websocket.ErrReadLimit):
		end = closed(websocket.CloseMessageTooBig, fmt.Sprintf("a frame of more than %d bytes (raise Config.MaxFrame)", c.cfg.MaxFrame))
	case errors.Is(err, errBinary):
		c.sendClose(websocket.CloseUnsupportedData)
		end = &ending{err: err}
	case errors.Is(err, wire.ErrBadFrame):
		end = c.broken(err.Error())
	case c.goaway != nil:
		end = closed(c.goaway.Code, c.clean(c.goaway.Reason))
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
