package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// client is one user's connection, as light as can be: one goroutine, frames told apart by how they begin.
type client struct {
	fleet *fleet
	user  string

	// Owned by the goroutine of the connection, and between connections by the fleet.
	buf       []byte
	epoch     string
	live      bool
	ackedAt   time.Time
	unacked   int
	got       sequence
	disorder  int // messages whose seq did not grow
	gaps      int
	latencies latencies

	last   atomic.Uint64 // seq up to which it has everything
	lastAt atomic.Int64  // when the last message came, in nanoseconds

	mu      sync.Mutex // orders writes, and the end
	ws      *websocket.Conn
	leaving bool
}

// acks say when clients acknowledge.
type acks int

const (
	ackOnLeaving acks = iota // what they have then
	ackAsOurs                // as often as package client does: every 50 ms, or 16 messages
	ackNever
)

const (
	ackEvery = 50 * time.Millisecond
	ackBatch = 16
	tries    = 20 // of one that is told to come again
)

// come connects until the client is live. Where it is told to come again it does, as clients should.
func (c *client) come(ctx context.Context) error {
	for try := 1; ; try++ {
		err := c.connect(ctx)
		for err == nil && !c.live {
			err = c.read()
		}
		if err == nil {
			return nil
		}
		c.hangUp()
		if try == tries || ctx.Err() != nil || c.gone() || final(err) {
			return fmt.Errorf("user %s: %w", c.user, err)
		}
		c.fleet.again.Add(1)
		if err := pause(ctx, rand.N(time.Duration(try)*100*time.Millisecond)); err != nil {
			return err
		}
	}
}

// final says whether it is of no use to come again: nobody listens, or a client is told to stop.
func final(err error) bool {
	closed := (*websocket.CloseError)(nil)
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &closed) && !wire.CloseCode(closed.Code).Retry()
}

func (c *client) connect(ctx context.Context) error {
	select {
	case c.fleet.dialing <- struct{}{}:
		defer func() { <-c.fleet.dialing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ws, response, err := c.fleet.dialer.DialContext(ctx, c.fleet.url, nil)
	if errors.Is(err, websocket.ErrBadHandshake) {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200)) // such as that the port speaks TLS
		return fmt.Errorf("%w: HTTP %s: %s", err, response.Status, bytes.TrimSpace(text))
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws, c.live = ws, false
	if c.leaving { // meanwhile
		return ws.Close()
	}
	return nil
}

// listen reads until the connection ends, which only leave may bring about.
func (c *client) listen() error {
	for {
		if err := c.read(); err != nil {
			c.hangUp()
			if c.gone() {
				return nil
			}
			return fmt.Errorf("user %s was cut off: %w", c.user, err)
		}
	}
}

// read handles one frame.
func (c *client) read() error {
	_, r, err := c.ws.NextReader()
	if err != nil {
		return err
	}
	for c.buf = c.buf[:0]; ; {
		if len(c.buf) == cap(c.buf) {
			c.buf = append(c.buf, 0)[:len(c.buf)]
		}
		n, err := r.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		if errors.Is(err, io.EOF) {
			return c.handle(c.buf)
		}
		if err != nil {
			return err
		}
	}
}

// leave says goodbye, or where there was no admission yet just ends.
func (c *client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	if c.ws == nil {
		return
	}
	soon := time.Now().Add(10 * time.Second)
	_ = c.ws.SetWriteDeadline(soon)
	if last := c.last.Load(); last > 0 && c.fleet.acks != ackNever {
		_ = c.ws.WriteMessage(websocket.TextMessage, wire.Append(nil, wire.Ack{Seq: last}))
	}
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if c.ws.WriteControl(websocket.CloseMessage, goodbye, soon) != nil {
		_ = c.ws.Close()
	}
	_ = c.ws.SetReadDeadline(soon) // for the answer, which its goroutine reads
}

// hangUp ends the connection at this side.
func (c *client) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws != nil {
		_ = c.ws.Close()
		c.ws = nil
	}
}

func (c *client) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}
