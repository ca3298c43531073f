package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"
)

// ResponderConfig configures a [Responder]. The zero value is ready to use.
type ResponderConfig struct {
	// Subject to answer on; empty: [DefaultSubject].
	Subject string
	// Name and Version are shown by `nats service ls`; empty: tidings-auth, 1.0.0. Name is made of letters, digits,
	// dashes and underscores; Version is a semantic version.
	Name, Version string
	// QueueGroup shares the questions among all responders of the same group; empty: tidings-auth.
	QueueGroup string
	// Timeout of one question, from its arrival; 0: 3 s. Its Authenticator's context ends then.
	Timeout time.Duration
	// MaxInFlight bounds the questions worked on at once; 0: 256. Sixteen times as many may wait, further ones are
	// told to come again.
	MaxInFlight int
	// Logger gets failures of the Authenticator; the zero value is silent. No token is ever logged.
	Logger zerolog.Logger
}

func (c ResponderConfig) withDefaults() ResponderConfig {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&c.Subject, DefaultSubject)
	set(&c.Name, "tidings-auth")
	set(&c.Version, "1.0.0")
	set(&c.QueueGroup, "tidings-auth")
	if c.Timeout <= 0 {
		c.Timeout = 3 * time.Second
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 256
	}
	return c
}

// Responder answers questions on a NATS subject with what an Authenticator says, as a NATS micro service.
type Responder struct {
	// Static after construction.
	nc    *nats.Conn
	auth  Authenticator
	cfg   ResponderConfig
	ready chan struct{}
	ran   atomic.Bool
	stats counters

	// Guarded by mu: no question is queued once closed, which makes closing the queue safe.
	mu     sync.RWMutex
	closed bool
	queue  chan question
}

// NewResponder returns a Responder that answers with a. Nothing happens before Run.
func NewResponder(nc *nats.Conn, a Authenticator, cfg ResponderConfig) *Responder {
	cfg = cfg.withDefaults()
	return &Responder{
		nc:    nc,
		auth:  a,
		cfg:   cfg,
		ready: make(chan struct{}),
		queue: make(chan question, 16*cfg.MaxInFlight),
	}
}

// Ready is closed once questions asked from now on reach this responder. It stays open if Run fails before.
func (r *Responder) Ready() <-chan struct{} { return r.ready }

// Run answers questions until ctx is done, then finishes those that have arrived, which takes as long as the
// Authenticator but not much longer than Timeout if that heeds its context, and returns nil. It may be called once.
//
// It returns an error if the configuration is wrong, if nc is closed, or if NATS forbids the subscription at the
// start. A permission lost later comes only as an asynchronous error of nc: nats.ErrorHandler is its owner's, and
// must be set before Run, because micro wraps it. Permission for $SRV.> is only needed to be listed.
func (r *Responder) Run(ctx context.Context) error {
	if !r.ran.CompareAndSwap(false, true) {
		return errors.New("auth: responder: Run was called before (make another Responder)")
	}
	lost := r.nc.StatusChanged(nats.CLOSED)
	defer r.nc.RemoveStatusListener(lost)

	var workers sync.WaitGroup
	for range r.cfg.MaxInFlight {
		workers.Go(func() { r.work(context.WithoutCancel(ctx)) })
	}
	err := r.serve(ctx, lost)
	workers.Wait()
	// The answers are still in nc's buffer. If the flush fails, so has nc, and who asked comes again.
	if r.nc.IsConnected() {
		_ = r.flush(context.WithoutCancel(ctx))
	}
	return err
}

// serve takes questions until ctx is done or nc is lost, and leaves the queue closed.
func (r *Responder) serve(ctx context.Context, lost <-chan nats.Status) error {
	defer r.closeQueue()
	service, err := micro.AddService(r.nc, micro.Config{
		Name:         r.cfg.Name,
		Version:      r.cfg.Version,
		Description:  "Says whom a token belongs to",
		QueueGroup:   r.cfg.QueueGroup,
		StatsHandler: func(*micro.Endpoint) any { return r.stats.snapshot(len(r.queue)) },
	})
	if err != nil {
		return fmt.Errorf("auth: responder %q, version %q: %w", r.cfg.Name, r.cfg.Version, err)
	}
	defer r.retire(context.WithoutCancel(ctx), service)

	earlier := r.nc.LastError()
	endpoint := micro.WithEndpointSubject(r.cfg.Subject)
	if err := service.AddEndpoint("authenticate", micro.HandlerFunc(r.take), endpoint); err != nil {
		return fmt.Errorf("auth: responder on %q: %w", r.cfg.Subject, err)
	}
	if err := r.subscribed(ctx, earlier); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	close(r.ready)
	select {
	case <-ctx.Done():
		return nil
	case <-lost:
		return fmt.Errorf("auth: responder on %q: %w", r.cfg.Subject, nats.ErrConnectionClosed)
	}
}

// subscribed waits until the server has the subscription, through a reconnect if need be, or ctx is done. The
// server's refusal arrives before the answer to the flush; micro does not pass it on, hence LastError.
func (r *Responder) subscribed(ctx context.Context, earlier error) error {
	for err := r.flush(ctx); err != nil; err = r.flush(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if r.nc.IsClosed() {
			return fmt.Errorf("auth: responder on %q: %w", r.cfg.Subject, nats.ErrConnectionClosed)
		}
		sleep(ctx, 50*time.Millisecond)
	}
	err := r.nc.LastError()
	if err != earlier && errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+r.cfg.Subject+`"`) {
		return fmt.Errorf("auth: responder: %w (allow this NATS user to subscribe to %s)", err, r.cfg.Subject)
	}
	return nil
}

// take is micro's handler. The next question waits until it returns, so it only queues.
func (r *Responder) take(req micro.Request) {
	if req.Reply() == "" {
		return // nobody to tell
	}
	q := question{
		req:      requestOf(req.Data(), nats.Header(req.Headers())),
		reply:    req.Reply(),
		deadline: time.Now().Add(r.cfg.Timeout),
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.closed {
		select {
		case r.queue <- q:
			return
		default:
		}
	}
	r.stats.turnedAway.Add(1)
	if err := req.Error("503", "busy", unavailable); err != nil {
		r.cfg.Logger.Warn().Err(err).Str("conn", q.req.Conn).Msg("auth: cannot turn a question away")
	}
}

// retire unsubscribes and lets through what the server had sent by then. What is later still is turned away.
func (r *Responder) retire(ctx context.Context, service micro.Service) {
	if err := service.Stop(); err != nil {
		r.cfg.Logger.Warn().Err(err).Msg("auth: responder cannot leave NATS cleanly")
	}
	if !r.nc.IsConnected() || r.flush(ctx) != nil {
		return
	}
	// A barrier waits for the handlers of all that shares nc, hence the bound.
	passed := make(chan struct{})
	if r.nc.Barrier(func() { close(passed) }) == nil {
		select {
		case <-passed:
		case <-time.After(flushTimeout):
		}
	}
}

func (r *Responder) closeQueue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	close(r.queue)
}

const flushTimeout = 2 * time.Second

func (r *Responder) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	return r.nc.FlushWithContext(ctx)
}
