package auth

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// RequesterConfig configures a [Requester]. The zero value is ready to use.
type RequesterConfig struct {
	// Subject of the requests; empty: [DefaultSubject].
	Subject string
	// Timeout of a request, from when it is sent; 0: 3 s.
	Timeout time.Duration
	// MaxInFlight is the maximum number of requests sent and not yet answered; 0: 64. Further
	// requests wait for a slot. Without the limit, a storm of connections could give a responder
	// more requests than it can answer within Timeout: every reply would be late, and all clients
	// would retry. Requests wait in one queue for each host of RemoteAddr (of IPv6 the first 64
	// bits), and the queues are served in turn. With 64 slots, a responder that needs 100 ms for a
	// reply gives 640 replies a second, and one that gives 22 a second stays within 3 s.
	MaxInFlight int
	// MaxWait is the maximum wait for a slot, after which Authenticate fails with [ErrBusy]; 0: 10
	// s.
	MaxWait time.Duration
}

// Requester sends authentication requests over NATS. It is safe for concurrent use. Each request
// has a goroutine. It ends with the reply, after Timeout, when the connection is closed or, if the
// request has not been sent, when no caller waits for it any more.
type Requester struct {
	// Static after construction.
	nc      *nats.Conn
	subject string
	timeout time.Duration
	maxWait time.Duration
	pause   func(ctx context.Context) // before the second attempt

	slots   slots
	breaker breaker

	mu      sync.Mutex
	flights map[[sha256.Size]byte]*flight
}

// NewRequester returns a Requester on nc. It does not close nc.
func NewRequester(nc *nats.Conn, cfg RequesterConfig) *Requester {
	if cfg.Subject == "" {
		cfg.Subject = DefaultSubject
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 3 * time.Second
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = 64
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 10 * time.Second
	}
	// A mean of 250 ms, or less if Timeout is short.
	mean := min(250*time.Millisecond, cfg.Timeout/4)
	return &Requester{
		nc:      nc,
		subject: cfg.Subject,
		timeout: cfg.Timeout,
		maxWait: cfg.MaxWait,
		slots:   slots{free: cfg.MaxInFlight, hosts: map[string]*list.Element{}},
		flights: map[[sha256.Size]byte]*flight{},
		pause:   func(ctx context.Context) { sleep(ctx, mean/2+rand.N(mean+1)) },
	}
}

var (
	errNotConnected = errors.New("not connected to NATS")
	errOpen         = errors.New("breaker is open")
)

// Authenticate sends a request and returns the result of the reply. It costs one round trip. It
// sends a second request after a short pause only if certainly nobody received the first: there was
// no responder, or NATS was not connected. A request that may have been received is never repeated,
// because a token may be good for one use only. If the NATS connection is lost, Authenticate keeps
// waiting: the reply still arrives if the connection is back before Timeout.
//
// Callers that at the same time have the same token, origin, address (without the port), device and
// Renew share one request, with the Conn, port and UserAgent of the first caller. So two such
// callers use a single-use token once, and both are admitted. If the ctx of a caller ends, the
// others keep waiting. If it was the last caller, a request that waits for a slot is cancelled. One
// that has been sent keeps its slot until the reply or Timeout, because the backend still works on
// it. Callers that arrive until then join it, and the function of [WithLate] gets its result.
// Replies are not cached.
//
// After requests of five hosts in a row had no reply, no request is sent for about a second, and
// Authenticate fails with *[Unavailable]. Then one request probes; while there is no reply, the
// pause grows to about 10 s. A reconnect to NATS resets all this. The host is that of RemoteAddr.
// On loopback each port counts as a host, and each request with an empty RemoteAddr does.
//
// The error is a *[Refusal], [ErrUnavailable] (including [ErrBusy] and *[Unavailable]),
// [ErrBadReply], or wraps the error of ctx; if the deadline of ctx passes, it is ErrUnavailable
// too. A token that is too large for a NATS message is a *[Refusal] with code token_too_large,
// without a request.
func (r *Requester) Authenticate(ctx context.Context, req Request) (Identity, error) {
	if err := ctx.Err(); err != nil {
		return Identity{}, r.failure(ctx, err)
	}
	f := r.join(ctx, req)
	defer r.leave(f)
	select {
	case <-f.done:
	case <-ctx.Done():
		if r.abandon(ctx, f) {
			return Identity{}, r.failure(ctx, ctx.Err())
		}
	}
	if f.err != nil {
		return Identity{}, r.failure(ctx, f.err)
	}
	return f.read(req.Token)
}

func (r *Requester) askTwice(ctx context.Context, f *flight, req Request) (*nats.Msg, error) {
	until := time.Now().Add(r.maxWait) // for both attempts
	answer, err := r.ask(ctx, f, until, req)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errNotConnected) {
		r.pause(ctx)
		answer, err = r.ask(ctx, f, until, req)
	}
	return answer, err
}

func (r *Requester) ask(ctx context.Context, f *flight, until time.Time, req Request) (*nats.Msg, error) {
	host := hostOf(req.RemoteAddr)
	if !r.breaker.allows(r.nc.Stats().Reconnects, host) {
		return nil, errOpen
	}
	if err := r.slots.acquire(ctx, until, host); err != nil {
		return nil, err
	}
	defer r.slots.release()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// While NATS is not connected, nats.go would buffer the request and send it when no caller waits any more.
	if !r.nc.IsConnected() {
		return nil, errNotConnected
	}
	msg := req.message(r.subject)
	// nats.go 1.55.0 would reject it too, but leaks a little memory for every request that it rejects.
	if limit := r.nc.MaxPayload(); int64(msg.Size()-len(msg.Subject)) > limit {
		return nil, &Refusal{Code: "token_too_large", Message: fmt.Sprintf("at most %d bytes with headers", limit)}
	}
	if !r.setSent(f, true) {
		return nil, context.Canceled
	}
	defer r.setSent(f, false)
	period, ok := r.breaker.start(r.nc.Stats().Reconnects, host)
	if !ok {
		return nil, errOpen
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
	defer cancel()
	answer, err := r.nc.RequestMsgWithContext(ctx, msg)
	switch {
	case err == nil:
		r.breaker.answered()
	case errors.Is(err, nats.ErrNoResponders), errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.breaker.unanswered(period, host)
	default:
		r.breaker.abandoned(period, host)
	}
	return answer, err
}

// failure returns the error for a caller whose context is ctx.
func (r *Requester) failure(ctx context.Context, err error) error {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: request on %s: %w", ErrUnavailable, r.subject, ctx.Err())
	case ctx.Err() != nil:
		return fmt.Errorf("auth: request on %s: %w", r.subject, ctx.Err())
	case errors.Is(err, errOpen):
		return &Unavailable{RetryAfter: r.breaker.retry()}
	case errors.Is(err, ErrBusy):
		return fmt.Errorf("%w: no free slot for a request on %s within %v (if the responder is slow, run more of them)", err, r.subject, r.maxWait)
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: no responder on %s (start a responder, or use the subject of yours)",
			ErrUnavailable, r.subject)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no reply on %s within %v (the responder may be slow, or NATS may forbid the subject)",
			ErrUnavailable, r.subject, r.timeout)
	default:
		return fmt.Errorf("%w: request on %s: %w", ErrUnavailable, r.subject, err)
	}
}

// parseAnswer parses a reply, which may be the error of a NATS micro service. If the body is a
// refusal, the refusal counts. Otherwise codes 5xx and 429 are failures of the responder, and the
// client should retry; any other code is ErrBadReply. An error reply admits nobody, whatever its
// body says.
func parseAnswer(token string, msg *nats.Msg) (Identity, error) {
	id, err := parseReply(token, msg.Data)
	code, text := msg.Header.Get(micro.ErrorCodeHeader), msg.Header.Get(micro.ErrorHeader)
	var refusal *Refusal
	if code == "" && text == "" || errors.As(err, &refusal) {
		return id, err
	}
	kind := ErrBadReply
	if code == "429" || len(code) == 3 && code[0] == '5' {
		kind = ErrUnavailable
	}
	return Identity{}, fmt.Errorf("%w: responder error: %q %q", kind, clip(redact(token, code), maxCode), clip(redact(token, text), maxMessage))
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
