// Package client receives notifications from a Tidings gateway: it connects, resumes behind what was handled, acknowledges,
// and comes again when a connection is lost.
//
// A message is handled once per client as long as its position is kept: within one Client by the Client, across runs by
// whoever saves Client.Position and gives it to Config.Resume. Without that the server's stored position counts, and a
// message whose acknowledgement was lost comes again.
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

// State is what a client is doing.
type State string

// The states of a client. From Waiting it goes back to Connecting; Closed is the end of a Run.
const (
	Connecting State = "connecting" // asking for a token, connecting, authenticating
	Replaying  State = "replaying"  // admitted; what was missed comes
	Live       State = "live"       // caught up
	Waiting    State = "waiting"    // before the next attempt
	Closed     State = "closed"
)

// Ready, Gap are the frames of those names.
type (
	Ready = wire.Ready
	Gap   = wire.Gap
)

// Message is a notification. Data is its JSON (a text is a JSON string), or DataB64 its bytes.
type Message struct {
	wire.Msg
	Epoch    string // of Seq
	Replayed bool   // it came before the connection was live
}

// Client keeps one connection to a gateway.
type Client struct {
	cfg      Config // static after New
	progress *progress
	running  atomic.Bool

	// Owned by Run.
	back    backoff
	reached bool // a connection was made, so the URL was right
	hurried bool // came again at once after an expired lease, and was not live since
	failed  failure
}

// New validates the configuration. It starts nothing.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{
		cfg:      cfg,
		progress: newProgress(cfg.ManualAck, cfg.Resume),
		back:     backoff{least: cfg.MinBackoff, most: cfg.MaxBackoff, rand: cfg.Rand},
	}, nil
}

// Run connects, and again whenever the connection is lost. It returns nil once ctx is done, which is how a client is
// stopped: what was handled is acknowledged before, in at most a second. It returns a *CloseError where the server said
// not to come again, an error that wraps ErrUnauthorized where Config.Token did, and one that wraps ErrScheme or ErrCertificate
// if TLS fails before the first connection. It waits for a callback that is
// running and for its own goroutines. A client runs once at a time; run again, it goes on where it was.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("client: Run is running already")
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
		if end.failed {
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
	cn, end := dial(ctx, &c.cfg, c.progress, !c.reached)
	if end != nil {
		return end
	}
	c.reached = true
	defer cn.close()
	cn.start(ctx, token)
	return c.serve(ctx, cn)
}

// pause is how long to wait after an attempt.
func (c *Client) pause(end *ending) time.Duration {
	d := c.back.next()
	var closed *CloseError
	switch {
	case end.wait > 0 && end.spread:
		return end.wait + d
	case end.wait > 0:
		return end.wait
	case !c.hurried && errors.As(end.err, &closed) && closed.Code == wire.CloseLeaseExpired:
		c.hurried = true
		return c.back.soon()
	}
	return d
}

// Ack acknowledges all messages up to seq, if Config.ManualAck is set. It does not block, is gathered with others into one
// frame, and may come after a reconnect too. A seq that OnMessage was not given is ignored. Once OnReady has
// reported that seq starts over, earlier messages must not be acknowledged any more: their numbers may mean others now.
func (c *Client) Ack(seq uint64) { c.progress.acknowledge(seq) }

// Position is what to give to Config.Resume in a later run: up to there everything was handled, or acknowledged if
// Config.ManualAck is set. It is zero before the first admission.
func (c *Client) Position() Position { return c.progress.position() }
