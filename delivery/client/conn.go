package client

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/wire"
)

const (
	queueLength = 256              // frames that wait for a busy handler
	writeWait   = 10 * time.Second // for one frame; then the connection is taken for dead
	closeWait   = time.Second      // for the last acknowledgement and the close handshake
)

// event is what the connection's goroutines hand to the one that runs Run.
type event struct {
	frame   wire.Frame
	problem error // to be told, no more
	end     *ending
}

// conn is one connection. Its goroutines: one reads and answers pings, so that a busy handler does not keep it from doing
// so, one sends acknowledgements, one cuts a connection that does not end, and at times one renews the lease. close ends
// and awaits them.
type conn struct {
	// Static after dial.
	cfg       *Config
	ws        *websocket.Conn
	progress  *progress
	events    chan event
	cancel    context.CancelFunc
	work      sync.WaitGroup
	abandon   func()        // closes abandoned
	abandoned chan struct{} // nothing more is expected of the connection than its end
	over      chan struct{} // closed when the reader has ended

	// Owned by the reader.
	buf      bytes.Buffer
	silence  time.Duration // how long nothing may arrive
	alive    time.Duration // between signs of life while the handler keeps it from reading
	admitted bool          // ready came
	goaway   *wire.Goaway

	// Guarded by writing, which is held during a write.
	writing sync.Mutex

	// Guarded by mu.
	mu      sync.Mutex
	tokens  []string // sent, and cut out of what the server says
	failure error    // of a write

	renewing atomic.Bool
}

// start authenticates, which must come before any other frame, and starts the goroutines.
func (c *conn) start(ctx context.Context, token string) {
	auth := wire.Auth{Token: token, Device: c.cfg.Device}
	if from := c.progress.resume(); from.Epoch != "" {
		auth.After, auth.Epoch, auth.User = &from.Seq, from.Epoch, from.User
	}
	c.remember(token)
	c.write(auth)
	ctx, c.cancel = context.WithCancel(ctx)
	c.work.Go(func() { defer close(c.over); c.read(ctx) })
	c.work.Go(c.cut)
	c.work.Go(func() { c.sendAcks(ctx) })
}

// write sends one frame. Should it fail, the reader ends the connection.
func (c *conn) write(f wire.Frame) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writeLocked(f)
}

// writeLocked wants writing held.
func (c *conn) writeLocked(f wire.Frame) {
	_ = c.ws.SetWriteDeadline(time.Now().Add(writeWait)) // never fails in gorilla; the write would
	err := c.ws.WriteMessage(websocket.TextMessage, wire.Append(nil, f))
	if err == nil || errors.Is(err, websocket.ErrCloseSent) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = err
	}
	c.abandon() // but not at once: the server may have said why before it stopped reading, for the reader to find
}

// cut is the goroutine that closes an abandoned connection: when the reader has ended, at the latest after closeWait.
func (c *conn) cut() {
	<-c.abandoned
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-c.over:
	case <-late.C:
	}
	_ = c.ws.Close() // ends what is stuck in a read or a write
}

// close says what is left to say, ends the connection and waits for its goroutines. The reader goes on reading until the
// server's close frame, since closing with bytes unread resets the connection and may destroy the last acknowledgement.
func (c *conn) close() {
	c.cancel()
	c.abandon()
	c.sendAck()
	c.sendClose(websocket.CloseNormalClosure)
	c.work.Wait()
}

// sendClose sends a close frame, unless there was one.
func (c *conn) sendClose(code int) {
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(closeWait))
}

// remember keeps a token that goes to the server, so that it can be cut out of what comes back.
func (c *conn) remember(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens = append(c.tokens, token)
	c.tokens = c.tokens[max(0, len(c.tokens)-2):] // an answer may still be to the one before
}

// clean is what the server said, without the token: an authenticator may quote it. Words of a few letters are no secret,
// and cutting them would spoil the text.
func (c *conn) clean(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, token := range c.tokens {
		if len(token) >= 8 {
			text = strings.ReplaceAll(text, token, "[token]")
		}
	}
	return text
}

// writeFailure is why a write failed, if one did.
func (c *conn) writeFailure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}
