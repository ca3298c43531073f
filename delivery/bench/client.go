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

// client is one user's connection. It is lightweight: it has one goroutine and detects the type of a frame by its first
// bytes.
type client struct {
	fleet *fleet
	user  string

	// Used by the goroutine of the connection, and between connections by the fleet.
	buf       []byte
	epoch     string
	live      bool
	ackedAt   time.Time
	unacked   int
	got       sequence
	disorder  int // messages whose seq did not increase
	gaps      int
	latencies latencies

	last   atomic.Uint64 // position: seq up to which it has received everything
	lastAt atomic.Int64  // when the last message arrived, as Unix time in nanoseconds

	mu      sync.Mutex // serializes writes and the end of the connection
	ws      *websocket.Conn
	leaving bool
}

// acks sets when clients acknowledge.
type acks int

const (
	ackOnLeaving   acks = iota // once, before they disconnect
	ackLikeLibrary             // like package client: every 50 ms or 16 messages
	ackNever
)

const (
	ackEvery = 50 * time.Millisecond
	ackBatch = 16
	maxTries = 20 // connection attempts
)

// connectUntilLive connects until the client is live. It retries after a failure, unless that is final.
func (c *client) connectUntilLive(ctx context.Context) error {
	for try := 1; ; try++ {
		err := c.connect(ctx)
		for err == nil && !c.live {
			err = c.read()
		}
		if err == nil {
			return nil
		}
		c.hangUp()
		if try == maxTries || ctx.Err() != nil || c.isLeaving() || final(err) {
			return fmt.Errorf("user %s: %w", c.user, err)
		}
		c.fleet.retries.Add(1)
		if err := pause(ctx, rand.N(time.Duration(try)*100*time.Millisecond)); err != nil {
			return err
		}
	}
}

// final reports whether a retry is useless: the connection was refused, or the close code tells clients to stop.
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
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200)) // for example, that the port expects TLS
		return fmt.Errorf("%w: HTTP %s: %s", err, response.Status, bytes.TrimSpace(text))
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws, c.live = ws, false
	if c.leaving { // leave was called in the meantime
		return ws.Close()
	}
	return nil
}

// listen reads until the connection ends. If leave did not cause that, it returns an error.
func (c *client) listen() error {
	for {
		if err := c.read(); err != nil {
			c.hangUp()
			if c.isLeaving() {
				return nil
			}
			return fmt.Errorf("user %s lost the connection: %w", c.user, err)
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

// leave acknowledges, unless acks is ackNever, and starts to close the connection.
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
	closeMessage := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if c.ws.WriteControl(websocket.CloseMessage, closeMessage, soon) != nil {
		_ = c.ws.Close()
	}
	_ = c.ws.SetReadDeadline(soon) // for the close frame of the server, which listen reads
}

// hangUp closes the connection without a close frame.
func (c *client) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws != nil {
		_ = c.ws.Close()
		c.ws = nil
	}
}

func (c *client) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}
