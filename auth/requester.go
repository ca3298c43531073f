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
	// Subject to ask on; empty: [DefaultSubject].
	Subject string
	// Timeout of a question, from when it is asked; 0: 3 s.
	Timeout time.Duration
	// MaxInFlight bounds the questions asked and not yet answered; 0: 64. Further ones wait for their turn, or in a storm of
	// connections a responder that answers fewer in Timeout than it is asked would answer each too late, and all would come
	// again. They wait in a line for each host of RemoteAddr (of IPv6 the first 64 bits), and the hosts take turns. 64 suffice for
	// 640 answers a second where one takes 100 ms, and are within 3 s where there are 22 a second.
	MaxInFlight int
	// MaxWait bounds the wait for a turn, after which Authenticate fails with [ErrBusy]; 0: 10 s.
	MaxWait time.Duration
}

// Requester asks over NATS. It is safe for concurrent use. A question has a goroutine. It ends with the answer or Timeout, when the
// connection is closed or, if the question has not been sent, with the last caller that waits for it.
type Requester struct {
	// Static after construction.
	nc      *nats.Conn
	subject string
	timeout time.Duration
	maxWait time.Duration
	pause   func(ctx context.Context) // before the second try

	turns   turns
	breaker breaker

	mu      sync.Mutex
	flights map[[sha256.Size]byte]*flight
}

// NewRequester returns a Requester on nc, which stays its owner's to close.
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
	// A mean of 250 ms, or less where the answer is wanted soon.
	mean := min(250*time.Millisecond, cfg.Timeout/4)
	return &Requester{
		nc:      nc,
		subject: cfg.Subject,
		timeout: cfg.Timeout,
		maxWait: cfg.MaxWait,
		turns:   turns{free: cfg.MaxInFlight, hosts: map[string]*list.Element{}},
		flights: map[[sha256.Size]byte]*flight{},
		pause:   func(ctx context.Context) { sleep(ctx, mean/2+rand.N(mean+1)) },
	}
}

var (
	errNotConnected = errors.New("not connected to NATS")
	errOpen         = errors.New("the breaker is open")
)

// Authenticate asks once, and a second time after a short pause if surely nobody got the question: nobody
// listened, or NATS was away. A question that may have been read is never repeated, for a token may be good for
// one use. Costs one round trip. If NATS goes away meanwhile it waits on, for the answer still comes if the connection
// is back before Timeout.
//
// Callers with the same token, origin, address (whatever the port), device and Renew at the same time are one question, which bears the
// Conn, port and UserAgent of the first of them: so two of them at the same instant use a token for one use once, and both are admitted.
// A caller whose ctx ends leaves the others theirs. If it was the last one, a question that waits for its turn is not asked any more. One
// that has been sent keeps its turn until the answer or Timeout, because the backend still works on it, and callers that come until then
// join it; the function of [WithLate] gets that answer. An answer is not kept for those who come later.
//
// After questions in a row of five hosts to which there was no answer it asks nothing for about a second, and fails with *[Unavailable]. Then
// one question probes; while there is no answer the pause grows to about 10 s. Once NATS was away, all that is forgotten. The host is that of
// RemoteAddr; on loopback each port is one, and where it is empty each question.
//
// The error is a *[Refusal] (code token_too_large without asking, if the server would not carry it),
// [ErrUnavailable] (which [ErrBusy] and *[Unavailable] are too), [ErrBadReply], or wraps ctx's; a deadline of ctx's own is
// ErrUnavailable too.
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
	until := time.Now().Add(r.maxWait) // for both tries
	answer, err := r.ask(ctx, f, until, req)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errNotConnected) {
		r.pause(ctx)
		answer, err = r.ask(ctx, f, until, req)
	}
	return answer, err
}

func (r *Requester) ask(ctx context.Context, f *flight, until time.Time, req Request) (*nats.Msg, error) {
	host := hostOf(req.RemoteAddr)
	if !r.breaker.closed(r.nc.Stats().Reconnects, host) {
		return nil, errOpen
	}
	if err := r.turns.take(ctx, until, host); err != nil {
		return nil, err
	}
	defer r.turns.give()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// While NATS is away nats.go would keep the question, and ask it when nobody waits for the answer any more.
	if !r.nc.IsConnected() {
		return nil, errNotConnected
	}
	msg := req.message(r.subject)
	// nats.go would refuse it as well, but keeps a little of every request it refused (1.55.0).
	if limit := r.nc.MaxPayload(); int64(msg.Size()-len(msg.Subject)) > limit {
		return nil, &Refusal{Code: "token_too_large", Message: fmt.Sprintf("at most %d bytes with headers", limit)}
	}
	if !r.setSent(f, true) {
		return nil, context.Canceled
	}
	defer r.setSent(f, false)
	spell, ok := r.breaker.ask(r.nc.Stats().Reconnects, host)
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
		r.breaker.unanswered(spell, host)
	default:
		r.breaker.givenUp(spell, host)
	}
	return answer, err
}

// failure says what err means to the caller, whose context is ctx.
func (r *Requester) failure(ctx context.Context, err error) error {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: ask %s: %w", ErrUnavailable, r.subject, ctx.Err())
	case ctx.Err() != nil:
		return fmt.Errorf("auth: ask %s: %w", r.subject, ctx.Err())
	case errors.Is(err, errOpen):
		return &Unavailable{RetryAfter: r.breaker.retry()}
	case errors.Is(err, ErrBusy):
		return fmt.Errorf("%w: no turn to ask %s within %v (is the responder slow? run more of them)", err, r.subject, r.maxWait)
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: nobody listens on %s (start a responder, or ask on the subject of yours)",
			ErrUnavailable, r.subject)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: nothing on %s within %v (is the responder slow, or does NATS forbid the subject?)",
			ErrUnavailable, r.subject, r.timeout)
	default:
		return fmt.Errorf("%w: ask %s: %w", ErrUnavailable, r.subject, err)
	}
}

// parseAnswer reads a reply that may be a micro service's error. The JSON body rules where it says no. Without it,
// 5xx and 429 are the responder's trouble and not the token's: come again. Any other code is a no that we cannot
// read. An error reply admits nobody, whatever its body says.
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
	return Identity{}, fmt.Errorf("%w: the responder failed: %q %q", kind, clip(without(token, code), maxCode), clip(without(token, text), maxMessage))
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
