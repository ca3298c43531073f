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

// Client is a WebSocket client of one user that records every frame it receives. Create it with NewClient; Run connects
// it.
type Client struct {
	log *Log
	cfg ClientConfig

	next int // index of the next URL; used by Run only

	mu      sync.Mutex
	conns   []*connection
	seen    bits                  // indices of Log.published
	faults  []violation           // proven by single frames
	repeats int                   // msg frames that it dropped, because their seq is not past the position
	epoch   string                // of the position
	last    uint64                // the position: the largest seq of msg, live and ping
	acked   [2]uint64             // the largest seq that it acknowledged, and the largest of an acked frame
	left    bool                  // Leave was called
	socket  *websocket.Conn       // nil while not connected
	live    bool                  // socket has received live
	pongs   map[string]chan error // pending calls of Flush, by ping id
	resumed chan struct{}         // not nil: paused until it is closed
	settled int                   // number of Log.acks, from the first, that Missing need not examine again
}

// NewClient returns a client that is not connected yet.
func NewClient(l *Log, cfg ClientConfig) *Client {
	return &Client{log: l, cfg: cfg.withDefaults(), pongs: map[string]chan error{}}
}

// Run connects, authenticates, records and acknowledges until ctx is done. It reconnects whenever the connection ends,
// but returns an error for a close code or an HTTP status after which clients must not retry. Run may be called again
// after it has returned; the client then resumes at its position.
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

// join adds the client to those that Missing and Check examine.
func (l *Log) join(c *Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.clients, c) {
		return
	}
	l.clients = append(l.clients, c)
	pos := l.positionOf(c)
	pos.clients = append(pos.clients, c)
}

// positionOf returns the stored position that the client uses. mu must be held.
func (l *Log) positionOf(c *Client) *storedPosition {
	id := positionID{c.cfg.User, c.cfg.Device}
	if l.positions[id] == nil {
		if l.positions == nil {
			l.positions = map[positionID]*storedPosition{}
		}
		l.positions[id] = &storedPosition{start: map[int]*topicStart{}}
	}
	return l.positions[id]
}

// Drop resets the connection, as a failing network would.
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

// Flush waits until the gateway has read everything that the client has sent, including acknowledgements. It returns an
// error if the client is not connected or loses its connection.
func (c *Client) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	id := strconv.FormatUint(rand.Uint64(), 36)
	done := make(chan error, 1)
	c.mu.Lock()
	socket := c.socket
	c.pongs[id] = done
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pongs, id)
	}()
	if socket == nil {
		return fmt.Errorf("client %s is not connected", c.cfg.Name)
	}
	if err := socket.WriteControl(websocket.PingMessage, []byte(id), time.Now().Add(ioTimeout)); err != nil {
		return fmt.Errorf("client %s: %w", c.cfg.Name, err)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("client %s: no pong from the gateway: %w", c.cfg.Name, ctx.Err())
	}
}

// pong completes the call of Flush that sent the ping with this id.
func (c *Client) pong(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done, waiting := c.pongs[id]; waiting {
		done <- nil
		delete(c.pongs, id)
	}
}

// Pause makes the client stop reading, after at most one more frame. The connection stays open until the gateway closes
// it.
func (c *Client) Pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resumed == nil {
		c.resumed = make(chan struct{})
	}
}

// Resume ends Pause.
func (c *Client) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resumed != nil {
		close(c.resumed)
		c.resumed = nil
	}
}

// Leave declares that the client will not reconnect, so that it need not receive anything past its position.
func (c *Client) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
}

// Live reports whether the client is connected and has received a live frame.
func (c *Client) Live() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}

// Live returns nil if all clients are live, and otherwise an error with the number of those that are not.
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

// Position returns the client's position: it has received everything up to seq.
func (c *Client) Position() (epoch string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.last
}

// Acknowledged returns the largest seq that the client itself acknowledged in the epoch of its position, and the
// largest one that an acked frame reported for others.
func (c *Client) Acknowledged() (itself, others uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked[0], c.acked[1]
}

// waitWhilePaused waits until the client is not paused or ctx is done.
func (c *Client) waitWhilePaused(ctx context.Context) {
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

// recordReady records a ready frame, and sets the position if the frame starts at a different one.
func (c *Client) recordReady(conn *connection, ready wire.Ready, at moment) {
	l := c.log
	l.mu.Lock()
	known := slices.IndexFunc(l.epochs, func(e epoch) bool { return e.name == ready.Epoch })
	if known < 0 {
		known = len(l.epochs)
		l.epochs = append(l.epochs, epoch{ready.Epoch, at})
	}
	pos := l.positionOf(c)
	switch start := pos.start[known]; {
	case start == nil:
		pos.start[known] = &topicStart{ready: at, whole: conn.auth.After != nil}
	case conn.auth.After == nil && conn.authSent < start.ready: // the gateway may have seen this connection first
		start.whole = false
	}
	l.mu.Unlock()

	c.mu.Lock()
	defer c.mu.Unlock()
	conn.ready, conn.admitted, conn.epoch = ready, at, known
	conn.add(kindReady, at, ready.After, 0)
	if c.epoch != ready.Epoch || conn.auth.After != nil && ready.After < c.last { // a new stream, or an older copy of it
		c.epoch, c.last, c.acked = ready.Epoch, ready.After, [2]uint64{}
	}
}

// recordTopicStart uses a live frame to limit where the topics of the client's position start.
func (c *Client) recordTopicStart(conn *connection, seq uint64) {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	start := l.positionOf(c).start[conn.epoch]
	if start != nil && conn.authSent > start.ready && (!start.known || seq < start.live) {
		start.live, start.known = seq, true
	}
}

// shouldAck reports whether to acknowledge the next message.
func (c *Client) shouldAck() bool {
	switch c.cfg.Ack {
	case AckEach:
		return true
	case AckSometimes:
		return rand.IntN(4) == 0
	}
	return false
}

// bits is a set of small non-negative numbers.
type bits []uint64

func (b *bits) set(i int32) {
	for len(*b) <= int(i/64) {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bits) has(i int32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }
