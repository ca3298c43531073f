package delivery

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// cork is the socket beneath a WebSocket. While it is in, what is written is held until flush: many frames are one write to the
// system then, and a frame that was begun can be ended even after a write has timed out.
type cork struct {
	net.Conn
	pool  *sync.Pool                // of *[]byte
	until atomic.Pointer[time.Time] // no write is longer, whatever its deadline
	pace  pace

	mu       sync.Mutex // gorilla answers pings and closes in the reader's goroutine
	in       bool
	held     *[]byte   // of the pool; nil: nothing
	begun    int       // so many bytes of it are the rest of a frame that was begun
	deadline time.Time // of what is written without a cork
	armed    time.Time // the deadline of the socket
}

// heldMost is flushed at once.
const heldMost = 32 << 10

// hold puts the cork in.
func (c *cork) hold() {
	c.mu.Lock()
	c.in = true
	c.mu.Unlock()
}

// Write is for gorilla. It cannot fail while the cork is in.
func (c *cork) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.in && c.held == nil {
		c.arm(c.deadline)
		return c.Conn.Write(p)
	}
	if c.held == nil {
		c.held, _ = c.pool.Get().(*[]byte)
		if c.held == nil {
			c.held = new([]byte)
		}
	}
	*c.held = append(*c.held, p...)
	return len(p), nil
}

// SetWriteDeadline is for gorilla: it bounds what is written without a cork.
func (c *cork) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

// interrupt ends what is being written, and what will be, at that time.
func (c *cork) interrupt(t time.Time) {
	c.until.Store(&t)
	_ = c.Conn.SetWriteDeadline(t)
}

// holding is the number of bytes that wait.
func (c *cork) holding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return 0
	}
	return len(*c.held)
}

// flush pulls the cork and writes what is held, until the deadline, or longer by up to the slack, so that not each must set the
// socket's. What cannot be written is dropped, but for the rest of a frame that was begun: another flush may end it.
func (c *cork) flush(deadline time.Time, slack time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = false
	if c.held == nil {
		return nil
	}
	if c.armed.Before(deadline) || c.armed.After(deadline.Add(slack)) {
		c.arm(deadline.Add(slack))
	}
	held := *c.held
	n, err := c.Conn.Write(held)
	rest := max(0, c.begun-n)
	if n > c.begun {
		rest = frameEnd(held[c.begun:], n-c.begun) - (n - c.begun)
	}
	c.keep(held[n : n+rest])
	return err
}

// drop forgets what is held, but for the rest of a frame that was begun.
func (c *cork) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		c.keep((*c.held)[:c.begun])
	}
}

func (c *cork) keep(begun []byte) {
	c.begun = len(begun)
	*c.held = append((*c.held)[:0], begun...)
	if len(begun) > 0 {
		return
	}
	if cap(*c.held) <= 2*heldMost {
		c.pool.Put(c.held)
	}
	c.held = nil
}

func (c *cork) arm(deadline time.Time) {
	c.armed = deadline
	_ = c.Conn.SetWriteDeadline(deadline)
	if until := c.until.Load(); until != nil && (deadline.IsZero() || until.Before(deadline)) {
		_ = c.Conn.SetWriteDeadline(*until)
	}
}

// frameEnd is where the frame ends that the n-th byte is of: n itself between two of them. The frames are a server's, without masks
// (RFC 6455, 5.2).
func frameEnd(frames []byte, n int) (end int) {
	for end < n {
		header, size := 2, uint64(frames[end+1])
		switch size {
		case 126:
			header, size = 4, uint64(binary.BigEndian.Uint16(frames[end+2:]))
		case 127:
			header, size = 10, binary.BigEndian.Uint64(frames[end+2:])
		}
		end += header + int(size)
	}
	return end
}

// corking puts a cork on the connection that is hijacked from net/http.
type corking struct {
	http.ResponseWriter
	pool *sync.Pool
	cork *cork
}

func (c *corking) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c.cork = &cork{Conn: conn, pool: c.pool}
	return c.cork, rw, nil
}
