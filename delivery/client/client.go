// Package client receives notifications from a Tidings gateway. It connects, resumes after the last
// message it handled, acknowledges messages, and reconnects when a connection is lost.
//
// A client handles each message once as long as it knows its position. Within one Client, the
// Client keeps the position. Across runs, save Client.Position and pass it to Config.Resume.
// Without a saved position the server's stored position counts, and a message whose acknowledgement
// was lost is delivered again.
//
// The package imports neither NATS nor the gateway.
package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// State says what a client is doing.
type State string

// The states of a client. After Waiting a client is Connecting again. Closed is the state after Run
// returns.
const (
	Connecting State = "connecting" // gets a token, connects, authenticates
	Replaying  State = "replaying"  // admitted; receives the messages that it missed
	Live       State = "live"       // caught up
	Waiting    State = "waiting"    // waits before the next attempt
	Closed     State = "closed"
)

type (
	// Ready is the frame that admits the client.
	Ready = wire.Ready
	// Gap is the frame that reports that messages may be missing.
	Gap = wire.Gap
)

// Message is a notification. Data is its JSON (text is a JSON string); DataB64 holds the bytes of
// data that is neither JSON nor text.
type Message struct {
	wire.Msg
	Epoch    string // the epoch that Seq belongs to
	Replayed bool   // the message arrived before the connection was live
}

// Client keeps one connection to a gateway. Its methods may be called by any goroutine.
type Client struct {
	cfg      Config // not changed after New
	progress *progress
	running  atomic.Bool

	// Owned by Run.
	back         backoff
	connected    bool // a dial has succeeded, so the URL is right
	leaseRetried bool // reconnected without backoff after an expired lease, and has not been live since
	failed       failure
}

// New validates the configuration and returns a client. It does not connect; Run does.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{
		cfg:      cfg,
		progress: newProgress(cfg.ManualAck, cfg.Resume),
		back:     backoff{min: cfg.MinBackoff, max: cfg.MaxBackoff, rand: cfg.Rand},
	}, nil
}

// Run connects, and reconnects whenever the connection is lost. To stop the client, cancel ctx: Run
// then acknowledges what was handled, which takes at most a second, and returns nil.
//
// Run returns a *CloseError if the server closes with a code after which a client must not
// reconnect. It returns an error that wraps ErrUnauthorized if Config.Token does, and one that
// wraps ErrScheme or ErrCertificate if TLS fails before the first connection.
//
// Run waits for a callback that is running and for its own goroutines. Only one Run can be active
// at a time. A later Run continues at the client's position.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("client: Run is already running")
	}
	defer c.running.Store(false)
	for {
		c.cfg.OnState(Connecting, nil)
		end := c.attempt(ctx)
		if ctx.Err() != nil {
			c.cfg.OnState(Closed, nil)
			return nil
		}
		if end.stop {
			c.cfg.OnState(Closed, end.err)
			return end.err
		}
		wait := c.pause(end)
		pause := time.NewTimer(wait)
		c.cfg.OnState(Waiting, end.err)
		select {
		case <-ctx.Done():
			pause.Stop()
			c.cfg.OnState(Closed, nil)
			return nil
		case <-pause.C:
		}
		if end.handlerFailed {
			c.failed.pauses += wait
		}
	}
}

// attempt makes one connection and serves it until it ends.
func (c *Client) attempt(ctx context.Context) *ending {
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return &ending{err: fmt.Errorf("token: %w", err), stop: errors.Is(err, ErrUnauthorized)}
	}
	cn, end := dial(ctx, &c.cfg, c.progress, !c.connected)
	if end != nil {
		return end
	}
	c.connected = true
	defer cn.close()
	cn.start(ctx, token)
	return c.serve(ctx, cn)
}

// pause returns how long to wait after an attempt.
func (c *Client) pause(end *ending) time.Duration {
	d := c.back.next()
	var closed *CloseError
	switch {
	case end.wait > 0 && end.jitter:
		return end.wait + d
	case end.wait > 0:
		return end.wait
	case !c.leaseRetried && errors.As(end.err, &closed) && closed.Code == wire.CloseLeaseExpired:
		c.leaseRetried = true
		return c.back.first()
	}
	return d
}

// Ack acknowledges all messages up to seq. It has an effect only if Config.ManualAck is set. Ack
// does not block; several acknowledgements are combined into one frame. It may be called after a
// reconnect. A seq beyond the last message passed to OnMessage is ignored. Once OnReady has
// reported that seq starts over, do not acknowledge earlier messages: their numbers may belong to
// other messages now.
func (c *Client) Ack(seq uint64) { c.progress.acknowledge(seq) }

// Position returns the value to pass to Config.Resume in a later run. All messages up to it were
// handled, or acknowledged if Config.ManualAck is set. It is zero before the server admits the
// client for the first time.
func (c *Client) Position() Position { return c.progress.position() }
