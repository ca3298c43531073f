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
	// Subject to serve; empty: [DefaultSubject].
	Subject string
	// Name and Version are shown by `nats service ls`; empty: tidings-auth, 1.0.0. Name consists of
	// letters, digits, dashes and underscores; Version is a semantic version.
	Name, Version string
	// QueueGroup distributes the requests among all responders of the same group; empty:
	// tidings-auth.
	QueueGroup string
	// Timeout of one request, from its arrival; 0: 3 s. The context of the Authenticator ends then.
	Timeout time.Duration
	// MaxInFlight is the maximum number of requests processed at once; 0: 256. Sixteen times as
	// many may wait; further ones are rejected and should be retried.
	MaxInFlight int
	// Logger gets failures of the Authenticator; the zero value logs nothing. No token is ever
	// logged.
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

// Responder is a NATS micro service that replies to requests on a subject with the results of an
// Authenticator.
type Responder struct {
	// Static after construction.
	nc      *nats.Conn
	auth    Authenticator
	cfg     ResponderConfig
	ready   chan struct{}
	started atomic.Bool
	stats   counters

	// Guarded by mu: nothing is queued once closed is set, which makes closing the queue safe.
	mu     sync.RWMutex
	closed bool
	queue  chan incoming
}

// NewResponder returns a Responder that replies with the results of a. It does nothing before Run.
func NewResponder(nc *nats.Conn, a Authenticator, cfg ResponderConfig) *Responder {
	cfg = cfg.withDefaults()
	return &Responder{
		nc:    nc,
		auth:  a,
		cfg:   cfg,
		ready: make(chan struct{}),
		queue: make(chan incoming, 16*cfg.MaxInFlight),
	}
}

// Ready returns a channel that is closed when requests reach this responder. It stays open if Run
// fails before that.
func (r *Responder) Ready() <-chan struct{} { return r.ready }

// Run replies to requests until ctx is done, then finishes those that have arrived, and returns
// nil. Finishing takes as long as the Authenticator, but not much longer than Timeout if that
// observes its context. Run may be called once.
//
// Run returns an error if the configuration is wrong, if nc is closed, or if NATS forbids the
// subscription at the start. If the permission is lost later, only the error handler of nc reports
// it. The owner of nc must set nats.ErrorHandler before Run, because package micro wraps it.
// Permission for $SRV.> is needed only to be listed.
func (r *Responder) Run(ctx context.Context) error {
	if !r.started.CompareAndSwap(false, true) {
		return errors.New("auth: responder: Run was called before (create another Responder)")
	}
	closed := r.nc.StatusChanged(nats.CLOSED)
	defer r.nc.RemoveStatusListener(closed)

	var workers sync.WaitGroup
	for range r.cfg.MaxInFlight {
		workers.Go(func() { r.work(context.WithoutCancel(ctx)) })
	}
	err := r.serve(ctx, closed)
	workers.Wait()
	// The replies may still be in nc's buffer. If the flush fails, so has nc, and the clients retry.
	if r.nc.IsConnected() {
		_ = r.flush(context.WithoutCancel(ctx))
	}
	return err
}

// serve accepts requests until ctx is done or nc is closed. It closes the queue.
func (r *Responder) serve(ctx context.Context, closed <-chan nats.Status) error {
	defer r.closeQueue()
	service, err := micro.AddService(r.nc, micro.Config{
		Name:         r.cfg.Name,
		Version:      r.cfg.Version,
		Description:  "Finds the user of a token",
		QueueGroup:   r.cfg.QueueGroup,
		StatsHandler: func(*micro.Endpoint) any { return r.stats.snapshot(len(r.queue)) },
	})
	if err != nil {
		return fmt.Errorf("auth: responder %q, version %q: %w", r.cfg.Name, r.cfg.Version, err)
	}
	defer r.stopService(context.WithoutCancel(ctx), service)

	earlier := r.nc.LastError()
	endpoint := micro.WithEndpointSubject(r.cfg.Subject)
	if err := service.AddEndpoint("authenticate", micro.HandlerFunc(r.enqueue), endpoint); err != nil {
		return fmt.Errorf("auth: responder on %q: %w", r.cfg.Subject, err)
	}
	if err := r.waitSubscribed(ctx, earlier); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	close(r.ready)
	select {
	case <-ctx.Done():
		return nil
	case <-closed:
		return fmt.Errorf("auth: responder on %q: %w", r.cfg.Subject, nats.ErrConnectionClosed)
	}
}

// waitSubscribed waits until the server has the subscription, also across a reconnect, or until ctx
// is done. If the server refuses the subscription, its error arrives before the reply to the flush.
// Package micro does not pass the error on, so compare LastError.
func (r *Responder) waitSubscribed(ctx context.Context, earlier error) error {
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

// enqueue is the handler of the micro service. The next request waits until it returns, so it only
// queues.
func (r *Responder) enqueue(req micro.Request) {
	if req.Reply() == "" {
		return // the sender expects no reply
	}
	q := incoming{
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
		r.cfg.Logger.Warn().Err(err).Str("conn", q.req.Conn).Msg("auth: rejecting a request failed")
	}
}

// stopService unsubscribes, and accepts what the server had sent by then. Later requests are
// rejected.
func (r *Responder) stopService(ctx context.Context, service micro.Service) {
	if err := service.Stop(); err != nil {
		r.cfg.Logger.Warn().Err(err).Msg("auth: stopping the service failed")
	}
	if !r.nc.IsConnected() || r.flush(ctx) != nil {
		return
	}
	// The barrier waits for the handlers of all subscriptions on nc, so limit the wait.
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
