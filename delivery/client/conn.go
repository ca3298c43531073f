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
	queueLength = 256              // frames queued while the handler is busy
	writeWait   = 10 * time.Second // for one frame; after that the connection is considered dead
	closeWait   = time.Second      // for the last acknowledgement and the close handshake
)

// event is sent by the goroutines of a connection to the goroutine of Run.
type event struct {
	frame   wire.Frame
	problem error // reported to OnError; the connection stays open
	end     *ending
}

// conn is one connection. One goroutine reads and answers pings, so that a busy handler does not
// delay the answers. One sends acknowledgements. One closes an abandoned connection. A fourth
// renews the lease when needed. close ends all of them and waits for them.
type conn struct {
	// Static after dial.
	cfg        *Config
	ws         *websocket.Conn
	progress   *progress
	events     chan event
	cancel     context.CancelFunc
	work       sync.WaitGroup
	abandon    func()        // closes abandoned
	abandoned  chan struct{} // closed when the connection only has to end
	readerDone chan struct{} // closed when the reader has returned

	// Owned by the reader.
	buf       bytes.Buffer
	silence   time.Duration // maximum time without any data from the server
	pongEvery time.Duration // interval of the pongs sent while a full queue blocks the reader
	admitted  bool          // ready has arrived
	goaway    *wire.Goaway

	// Guarded by writing, which is held during a write.
	writing sync.Mutex

	// Guarded by mu.
	mu      sync.Mutex
	tokens  []string // sent to the server, and removed from its texts
	failure error    // of the first write that failed

	renewing atomic.Bool
}

// start sends auth, which must be the first frame, and starts the goroutines.
func (c *conn) start(ctx context.Context, token string) {
	auth := wire.Auth{Token: token, Device: c.cfg.Device}
	if from := c.progress.resume(); from.Epoch != "" {
		auth.After, auth.Epoch, auth.User = &from.Seq, from.Epoch, from.User
	}
	c.rememberToken(token)
	c.write(auth)
	ctx, c.cancel = context.WithCancel(ctx)
	c.work.Go(func() { defer close(c.readerDone); c.read(ctx) })
	c.work.Go(c.closeAbandoned)
	c.work.Go(func() { c.sendAcks(ctx) })
}

// write sends one frame. If it fails, the reader ends the connection.
func (c *conn) write(f wire.Frame) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writeLocked(f)
}

// writeLocked is write for a caller that holds writing.
func (c *conn) writeLocked(f wire.Frame) {
	_ = c.ws.SetWriteDeadline(time.Now().Add(writeWait)) // never fails in gorilla/websocket; the write would fail
	err := c.ws.WriteMessage(websocket.TextMessage, wire.Append(nil, f))
	if err == nil || errors.Is(err, websocket.ErrCloseSent) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = err
	}
	c.abandon() // closes later: the reader may still find a frame in which the server says why it stopped reading
}

// closeAbandoned runs in a goroutine of its own. It closes an abandoned connection when the reader
// has returned, or after closeWait.
func (c *conn) closeAbandoned() {
	<-c.abandoned
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-c.readerDone:
	case <-late.C:
	}
	_ = c.ws.Close() // unblocks reads and writes
}

// close sends the pending acknowledgement and a close frame, and waits for the goroutines. The
// reader keeps reading until the server's close frame: closing a socket with unread bytes resets
// it, and that can destroy the last acknowledgement.
func (c *conn) close() {
	c.cancel()
	c.abandon()
	c.sendAck()
	c.sendClose(websocket.CloseNormalClosure)
	c.work.Wait()
}

// sendClose sends a close frame unless one was sent before.
func (c *conn) sendClose(code int) {
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(closeWait))
}

// rememberToken stores a token that is sent to the server, so that redact can remove it from the
// server's texts.
func (c *conn) rememberToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens = append(c.tokens, token)
	c.tokens = c.tokens[max(0, len(c.tokens)-2):] // the server may still answer the previous token
}

// redact removes tokens from a text of the server, because an authenticator may quote them. Tokens
// of a few letters are not secret, and removing them would spoil the text.
func (c *conn) redact(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, token := range c.tokens {
		if len(token) >= 8 {
			text = strings.ReplaceAll(text, token, "[token]")
		}
	}
	return text
}

// writeFailure returns the error of the first write that failed, or nil.
func (c *conn) writeFailure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}
