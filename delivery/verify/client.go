package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// Client is a user's client that records all it is sent. Make it with NewClient; Run connects.
type Client struct {
	log *Log
	cfg ClientConfig

	next int // URL; owned by Run

	mu      sync.Mutex
	conns   []*connection
	seen    bits                  // of Log.published
	faults  []violation           // what a frame alone shows
	repeats int                   // msg frames that it dropped
	epoch   string                // of the position
	last    uint64                // the position: the largest seq of msg, live and ping
	acked   [2]uint64             // the largest seq that it acknowledged, and that it was told others had
	gone    bool                  // by Leave
	socket  *websocket.Conn       // open
	live    bool                  // on it
	pongs   map[string]chan error // that Flush waits for
	resumed chan struct{}         // not nil: paused until it is closed
	settled int                   // of Log.acks, for Missing: so many are no concern any more
}

// NewClient returns a client that is not yet connected.
func NewClient(l *Log, cfg ClientConfig) *Client {
	return &Client{log: l, cfg: cfg.withDefaults(), pongs: map[string]chan error{}}
}

// Run connects, authenticates, records and acknowledges, and comes again whenever it is cut off, until ctx is done. A close code
// or an HTTP status that tells it to stop is an error. Run may be called again after it has returned: the client comes back
// with its position.
func (c *Client) Run(ctx context.Context) error {
	c.log.join(c)
	for ctx.Err() == nil {
		wait, err := c.connect(ctx)
		if err != nil {
			return fmt.Errorf("client %s: %w", c.cfg.Name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// join makes the log ask what the client must have.
func (l *Log) join(c *Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.clients, c) {
		return
	}
	l.clients = append(l.clients, c)
	cur := l.cursorOf(c)
	cur.clients = append(cur.clients, c)
}

// cursorOf is called with mu held.
func (l *Log) cursorOf(c *Client) *cursor {
	id := cursorID{c.cfg.User, c.cfg.Device}
	if l.cursors[id] == nil {
		if l.cursors == nil {
			l.cursors = map[cursorID]*cursor{}
		}
		l.cursors[id] = &cursor{in: map[int]*cursorBegin{}}
	}
	return l.cursors[id]
}

// Drop resets the connection, as a network does.
func (c *Client) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return
	}
	if tcp, ok := c.socket.NetConn().(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.socket.Close()
}

// Flush waits until the gateway has read what the client sent until now, acknowledgements too. It fails where the client is not
// connected, or is cut off meanwhile.
func (c *Client) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id := strconv.FormatUint(rand.Uint64(), 36)
	read := make(chan error, 1)
	c.mu.Lock()
	socket := c.socket
	c.pongs[id] = read
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pongs, id)
	}()
	if socket == nil {
		return fmt.Errorf("client %s is not connected", c.cfg.Name)
	}
	if err := socket.WriteControl(websocket.PingMessage, []byte(id), time.Now().Add(patience)); err != nil {
		return fmt.Errorf("client %s: %w", c.cfg.Name, err)
	}
	select {
	case err := <-read:
		return err
	case <-ctx.Done():
		return fmt.Errorf("client %s: the gateway does not answer: %w", c.cfg.Name, ctx.Err())
	}
}

// pong ends the wait of a Flush.
func (c *Client) pong(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if read, waiting := c.pongs[id]; waiting {
		read <- nil
		delete(c.pongs, id)
	}
}

// Pause stops reading, at most one frame later. The connection stays open for as long as the gateway bears it.
func (c *Client) Pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resumed == nil {
		c.resumed = make(chan struct{})
	}
}

// Resume reads again.
func (c *Client) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resumed != nil {
		close(c.resumed)
		c.resumed = nil
	}
}

// Leave says that the client does not come back: it need not have more than what lies before its position.
func (c *Client) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
}

// Live says whether it is connected, and live has come.
func (c *Client) Live() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}

// Live is nil once all the clients are live, else an error that counts those that are not. It is for waiting.
func Live(clients ...*Client) error {
	waiting := 0
	for _, c := range clients {
		if !c.Live() {
			waiting++
		}
	}
	if waiting > 0 {
		return fmt.Errorf("%d of %d clients are not live", waiting, len(clients))
	}
	return nil
}

// Position is how far it has everything.
func (c *Client) Position() (epoch string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.last
}

// Acknowledged is the largest seq that it acknowledged in the epoch of its position, and that it was told others had.
func (c *Client) Acknowledged() (itself, others uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked[0], c.acked[1]
}

// reading waits while the client is paused.
func (c *Client) reading(ctx context.Context) {
	c.mu.Lock()
	resumed := c.resumed
	c.mu.Unlock()
	if resumed != nil {
		select {
		case <-resumed:
		case <-ctx.Done():
		}
	}
}

// admit notes a ready frame: where the client is from now on.
func (c *Client) admit(conn *connection, ready wire.Ready, at moment) {
	l := c.log
	l.mu.Lock()
	known := slices.IndexFunc(l.epochs, func(e epoch) bool { return e.name == ready.Epoch })
	if known < 0 {
		known = len(l.epochs)
		l.epochs = append(l.epochs, epoch{ready.Epoch, at})
	}
	cur := l.cursorOf(c)
	switch begin := cur.in[known]; {
	case begin == nil:
		cur.in[known] = &cursorBegin{ready: at, whole: conn.auth.After != nil}
	case conn.auth.After == nil && conn.authSent < begin.ready: // it may have been the first in the gateway's eyes
		begin.whole = false
	}
	l.mu.Unlock()

	c.mu.Lock()
	defer c.mu.Unlock()
	conn.ready, conn.admitted, conn.epoch = ready, at, known
	conn.add(kindReady, at, ready.After, 0)
	if c.epoch != ready.Epoch || conn.auth.After != nil && ready.After < c.last { // another stream, or an older copy of it
		c.epoch, c.last, c.acked = ready.Epoch, ready.After, [2]uint64{}
	}
}

// enliven notes a live frame.
func (c *Client) enliven(conn *connection, seq uint64) {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if begin := l.cursorOf(c).in[conn.epoch]; begin != nil && conn.authSent > begin.ready && (!begin.known || seq < begin.live) {
		begin.live, begin.known = seq, true
	}
}

// acknowledges says whether to acknowledge a message.
func (c *Client) acknowledges() bool {
	switch c.cfg.Ack {
	case AckEach:
		return true
	case AckSometimes:
		return rand.IntN(4) == 0
	}
	return false
}

// bits are a set of small numbers.
type bits []uint64

func (b *bits) set(i int32) {
	for len(*b) <= int(i/64) {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bits) has(i int32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }
