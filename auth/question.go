package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// incoming is a Request that has arrived over NATS.
type incoming struct {
	req      Request
	reply    string    // subject to reply on
	deadline time.Time // the requester does not wait longer
}

// unavailable is the reply for every failure of our own. It does not say what failed.
var unavailable = []byte(`{"success":false,"error":"unavailable","message":"try again","retry_after":2}`)

// counters are shown as data of the endpoint by `nats service stats`. The numbers of package micro
// cover only the handler, which queues a request and does not answer it: a handler that answered
// would delay the next request.
type counters struct {
	admitted, refused, failed, turnedAway atomic.Int64
}

type stats struct {
	Admitted   int64 `json:"admitted"`
	Refused    int64 `json:"refused"`
	Failed     int64 `json:"failed"`
	TurnedAway int64 `json:"turned_away"`
	Waiting    int   `json:"waiting"`
}

func (c *counters) snapshot(waiting int) stats {
	return stats{c.admitted.Load(), c.refused.Load(), c.failed.Load(), c.turnedAway.Load(), waiting}
}

// work replies to requests until the queue is closed and empty.
func (r *Responder) work(ctx context.Context) {
	for q := range r.queue {
		// Not with micro's Respond: it records failures in memory that micro reads after enqueue has returned.
		if err := r.nc.PublishMsg(r.answer(ctx, q)); err != nil {
			r.cfg.Logger.Warn().Err(err).Object("request", q.req).Msg("auth: reply failed")
		}
	}
}

// answer returns the reply to q. A refusal is a normal reply; only a failure of our own carries the
// error headers of package micro.
func (r *Responder) answer(ctx context.Context, q incoming) *nats.Msg {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	msg := nats.NewMsg(q.reply)
	var refusal *Refusal
	id, err := r.authenticate(ctx, q.req)
	if err == nil {
		r.stats.admitted.Add(1)
		msg.Data, err = encodeIdentity(id)
	} else if errors.As(err, &refusal) && refusal != nil {
		r.stats.refused.Add(1)
		msg.Data, err = encodeRefusal(refusal)
	}
	if err != nil {
		r.stats.failed.Add(1)
		r.cfg.Logger.Error().Str("error", redact(q.req.Token, err.Error())).Object("request", q.req).
			Msg("auth: authentication failed")
		msg.Header.Set(micro.ErrorHeader, "unavailable")
		msg.Header.Set(micro.ErrorCodeHeader, "500")
		msg.Data = unavailable
	}
	return msg
}

// authenticate calls the Authenticator, recovers its panics, and checks its result.
func (r *Responder) authenticate(ctx context.Context, req Request) (id Identity, err error) {
	if ctx.Err() != nil {
		return Identity{}, fmt.Errorf("queued for %v: %w", r.cfg.Timeout, ctx.Err())
	}
	defer func() {
		if p := recover(); p != nil {
			id, err = Identity{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if id, err = r.auth.Authenticate(ctx, req); err != nil {
		return Identity{}, err
	}
	return id.checked()
}

// shortToken is a length in bytes that every secret reaches. A shorter token may be part of a word,
// and removing it there would reveal it.
const shortToken = 8

// redact removes a token from a text of another program, such as the error of a failed HTTP
// request. It removes a short token only if it is a word of its own.
func redact(token, text string) string {
	if token == "" {
		return text
	}
	if len(token) >= shortToken {
		return strings.ReplaceAll(text, token, "[token]")
	}
	var b strings.Builder
	for at := 0; ; {
		i := strings.Index(text[at:], token)
		if i < 0 {
			return b.String() + text[at:]
		}
		before, _ := utf8.DecodeLastRuneInString(text[:at+i])
		after, _ := utf8.DecodeRuneInString(text[at+i+len(token):])
		b.WriteString(text[at : at+i])
		if partOfWord(before) || partOfWord(after) {
			b.WriteString(token)
		} else {
			b.WriteString("[token]")
		}
		at += i + len(token)
	}
}

func partOfWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}
