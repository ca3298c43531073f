package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

const (
	ioTimeout = time.Minute // for a handshake, a reply or a write; long, because thousands of clients may connect at once
	pingGrace = time.Minute // without a frame for the ping interval plus this time, the connection counts as dead
)

// connect opens one connection and reads it until it ends. It returns how long to wait before the next connection.
// After an error, the client must not reconnect.
func (c *Client) connect(ctx context.Context) (wait time.Duration, err error) {
	url := c.cfg.URLs[c.next%len(c.cfg.URLs)]
	c.next++
	dialer := websocket.Dialer{
		NetDialContext: c.dial, HandshakeTimeout: ioTimeout, Subprotocols: []string{wire.Subprotocol},
		ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10,
	}
	ws, response, err := dialer.DialContext(ctx, url+wire.Path, nil)
	if err != nil {
		if response != nil && response.StatusCode < 500 && response.StatusCode != http.StatusTooManyRequests {
			return 0, fmt.Errorf("refused with HTTP %s", response.Status)
		}
		return rand.N(c.cfg.Backoff), nil
	}
	defer ws.Close()
	c.mu.Lock()
	conn := &connection{number: len(c.conns) + 1, url: url}
	c.conns = append(c.conns, conn)
	c.socket = ws
	c.mu.Unlock()
	ws.SetPongHandler(func(id string) error { c.pong(id); return nil })
	stop := context.AfterFunc(ctx, func() { _ = ws.SetReadDeadline(time.Now()) })
	defer stop()

	err = c.read(ctx, ws, conn)
	return c.end(ctx, ws, conn, err)
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	return c.cfg.Dial(ctx, network, address)
}

// read handles frames until the connection ends.
func (c *Client) read(ctx context.Context, ws *websocket.Conn, conn *connection) error {
	readTimeout := ioTimeout
	for {
		c.waitWhilePaused(ctx)
		_ = ws.SetReadDeadline(time.Now().Add(readTimeout))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, data, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		at := c.log.now()
		f, err := wire.Decode(data)
		if err != nil {
			c.addFault("protocol", fmt.Sprintf("at %s, invalid frame %s: %v", at, shorten(data), err), conn)
			return err
		}
		var answer wire.Frame
		switch f := f.(type) {
		case wire.Hello:
			answer = c.hello(conn, at)
		case wire.Ready:
			readTimeout = time.Duration(f.Ping)*time.Millisecond + pingGrace
			c.recordReady(conn, f, at)
		case wire.Gap:
			c.mu.Lock()
			conn.gaps = append(conn.gaps, gap{f, at, len(conn.frames)})
			conn.add(kindGap, at, f.After, 0)
			c.mu.Unlock()
		case wire.Msg:
			answer = c.message(conn, f, at)
		case wire.Live:
			c.advance(conn, kindLive, f.Seq, at)
			c.recordTopicStart(conn, f.Seq)
		case wire.Ping:
			c.advance(conn, kindPing, f.Seq, at)
			answer = wire.Pong{}
		case wire.Acked:
			c.mu.Lock()
			conn.add(kindAcked, at, f.Seq, 0)
			c.acked[1] = max(c.acked[1], f.Seq)
			c.mu.Unlock()
		case wire.Goaway:
			c.mu.Lock()
			conn.add(kindGoaway, at, 0, 0)
			conn.goaway = &f
			c.mu.Unlock()
		default:
			c.mu.Lock()
			conn.add(kindOther, at, 0, 0)
			c.mu.Unlock()
		}
		if answer == nil {
			continue
		}
		_ = ws.SetWriteDeadline(time.Now().Add(ioTimeout))
		if err := ws.WriteMessage(websocket.TextMessage, wire.Append(nil, answer)); err != nil {
			continue // read what the gateway sent before it closed the connection
		}
	}
}

// hello records a hello frame and returns the auth frame, with the client's position if it has one.
func (c *Client) hello(conn *connection, at moment) wire.Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.add(kindHello, at, 0, 0)
	first := wire.Auth{Device: c.cfg.Device}
	if c.epoch != "" && !c.cfg.Forget {
		after := c.last
		first.After, first.Epoch, first.User = &after, c.epoch, c.cfg.User
	}
	conn.auth, conn.authSent = first, c.log.now()
	first.Token = c.cfg.Token
	return first
}

// message records a msg frame, also an invalid one, and returns an ack frame or nil.
func (c *Client) message(conn *connection, m wire.Msg, at moment) wire.Frame {
	var p payload
	if err := json.Unmarshal(m.Data, &p); err != nil {
		c.addFault("foreign", fmt.Sprintf("at %s, seq %d has data that was not published: %s", at, m.Seq, shorten(m.Data)), conn)
	}
	i, pub, known := c.log.find(p.ID)
	switch {
	case !known:
		c.addFault("foreign", fmt.Sprintf("at %s, seq %d is %q, which was not published", at, m.Seq, p.ID), conn)
		i = -1
	case m.ID != pub.id || p.To != pub.to.String() || p.N != pub.n:
		c.addFault("foreign", fmt.Sprintf("at %s, seq %d with id %q has the data %+v, but %s was published", at, m.Seq, m.ID, p, &pub), conn)
	case !c.mayReceive(pub.to) || pub.to.topic && m.Topic != pub.to.name || !pub.to.topic && m.Topic != "":
		c.addFault("foreign", fmt.Sprintf("at %s, seq %d (topic %q) is %s", at, m.Seq, m.Topic, &pub), conn)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.add(kindMsg, at, m.Seq, i)
	if known {
		c.seen.set(i)
	}
	if conn.ready.Epoch == c.epoch && m.Seq <= c.last {
		c.repeats++
	}
	c.last = max(c.last, m.Seq)
	if !c.shouldAck() {
		return nil
	}
	c.acked[0] = max(c.acked[0], m.Seq)
	conn.add(kindAckSent, c.log.now(), m.Seq, 0)
	return wire.Ack{Seq: m.Seq}
}

// advance records a live or ping frame, which moves the position.
func (c *Client) advance(conn *connection, k kind, seq uint64, at moment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.add(k, at, seq, 0)
	c.live = c.live || k == kindLive
	c.last = max(c.last, seq)
}

// end records how the connection ended. It returns the wait before the next connection, or an error if there must be
// none.
func (c *Client) end(ctx context.Context, ws *websocket.Conn, conn *connection, err error) (wait time.Duration, final error) {
	code, reason := wire.CloseCode(websocket.CloseAbnormalClosure), err.Error()
	if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
		code, reason = wire.CloseCode(closed.Code), closed.Text
	}
	ours := ctx.Err() != nil || errors.Is(err, net.ErrClosed)
	if ctx.Err() != nil {
		goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = ws.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(time.Second))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.ended, conn.code, conn.reason, conn.ours = c.log.now(), code, reason, ours
	wasLive := c.live
	c.socket, c.live = nil, false
	for id, done := range c.pongs {
		done <- fmt.Errorf("client %s lost its connection", c.cfg.Name)
		delete(c.pongs, id)
	}
	switch {
	case ours:
		return 0, nil
	case !code.Retry():
		return 0, fmt.Errorf("closed with %s: %s", code, reason)
	case conn.goaway != nil && conn.goaway.RetryAfter > 0:
		return min(c.cfg.Backoff, time.Duration(conn.goaway.RetryAfter)*time.Millisecond), nil
	case wasLive:
		return 0, nil
	}
	return rand.N(c.cfg.Backoff), nil
}

// mayReceive reports whether notifications to the target are for this client.
func (c *Client) mayReceive(to target) bool {
	if !to.topic {
		return to.name == c.cfg.User
	}
	return slices.Contains(c.cfg.Topics, to.name)
}

func shorten(data []byte) string {
	if len(data) > 200 {
		return fmt.Sprintf("%.200q…", data)
	}
	return fmt.Sprintf("%q", data)
}
