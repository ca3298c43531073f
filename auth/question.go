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

// question is a Request that has arrived over NATS.
type question struct {
	req      Request
	reply    string    // subject to answer on
	deadline time.Time // after it nobody waits for the answer
}

// unavailable is the answer for every failure of ours: it says nothing of what failed.
var unavailable = []byte(`{"success":false,"error":"unavailable","message":"try again","retry_after":2}`)

// counters are shown as the endpoint's data by `nats service stats`. micro's own numbers cover taking a question
// only, not answering it, because a handler that answers holds up the next question.
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

// work answers questions until the queue is closed and empty.
func (r *Responder) work(ctx context.Context) {
	for q := range r.queue {
		// Not micro's Respond: it notes failures in memory that micro reads once take has returned.
		if err := r.nc.PublishMsg(r.answer(ctx, q)); err != nil {
			r.cfg.Logger.Warn().Err(err).Object("request", q.req).Msg("auth: cannot answer")
		}
	}
}

// answer is the reply to q. A refusal is a good answer; only a failure of ours carries micro's error headers.
func (r *Responder) answer(ctx context.Context, q question) *nats.Msg {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	msg := nats.NewMsg(q.reply)
	var refusal *Refusal
	id, err := r.ask(ctx, q.req)
	if err == nil {
		r.stats.admitted.Add(1)
		msg.Data, err = encodeIdentity(id)
	} else if errors.As(err, &refusal) && refusal != nil {
		r.stats.refused.Add(1)
		msg.Data, err = encodeRefusal(refusal)
	}
	if err != nil {
		r.stats.failed.Add(1)
		r.cfg.Logger.Error().Str("error", without(q.req.Token, err.Error())).Object("request", q.req).
			Msg("auth: cannot authenticate")
		msg.Header.Set(micro.ErrorHeader, "unavailable")
		msg.Header.Set(micro.ErrorCodeHeader, "500")
		msg.Data = unavailable
	}
	return msg
}

// ask calls the Authenticator, survives its panics, and checks what it says.
func (r *Responder) ask(ctx context.Context, req Request) (id Identity, err error) {
	if ctx.Err() != nil {
		return Identity{}, fmt.Errorf("waited %v for its turn: %w", r.cfg.Timeout, ctx.Err())
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

// shortToken is fewer bytes than a secret has. As a part of words such a token says nothing, and to cut it out would spell it.
const shortToken = 8

// without cuts a token out of a text that others wrote, such as the error of a failed HTTP request: a short one only where it is a word of
// its own.
func without(token, text string) string {
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
