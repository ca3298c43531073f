// Package auth asks a backend over NATS request/reply which user a token belongs to, and helps a
// backend to reply.
//
// A gateway holds an [Authenticator]. A [Requester] sends requests to the responders on a subject;
// a [Table] or [TokenIsUser] replies within the process. A [Responder] serves any Authenticator on
// the subject. Only an explicit, valid reply admits a user: no reply, an error, or a reply that
// cannot be understood admits nobody.
package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// DefaultSubject is the subject of authentication requests. Requests carry tokens, and a reply
// admits a user: only responders may have permission to subscribe to it.
const DefaultSubject = "tidings.auth"

// Limits of a reply. They bound what one reply can cost a gateway while its user is connected.
const (
	maxName    = 200  // bytes of a user or topic; a subject has the same limit for the encoded name, which is never shorter
	maxTopics  = 1000 // per user
	maxCode    = 64   // bytes of Refusal.Code
	maxMessage = 200  // bytes of Refusal.Message
	maxExpiry  = 100 * 365 * 24 * time.Hour
	maxRetry   = time.Hour
)

// Identity says which user a token belongs to, and what the user may read.
type Identity struct {
	// User is the user's name: 1 to 200 bytes of valid UTF-8.
	User string
	// Topics are the topics that the user may read besides their own notifications, in the order
	// granted, without repeats; nil: none. At most 1,000, each with the limits of User.
	Topics []string
	// ExpiresIn is how long the identity is valid, from now on; 0: for ever. It is never negative
	// and at most 100 years.
	ExpiresIn time.Duration
	// Asked is when the request was made; zero if the Authenticator does not say. It can be before
	// the call of Authenticate if callers share a request. The reply does not reflect what happens
	// to the user after it.
	Asked time.Time
}

// Authenticator finds the user that a token belongs to. *Requester, *Table and AuthenticatorFunc
// implement it.
//
// If the error is nil, the Identity is complete and valid. Otherwise the Identity is empty and the
// error is a *[Refusal] (the backend refuses the token), [ErrUnavailable] (retry), [ErrBadReply]
// (counts as a refusal), or the error of the context. Authenticate returns when ctx ends. It is
// called by many goroutines at once.
type Authenticator interface {
	Authenticate(ctx context.Context, req Request) (Identity, error)
}

// AuthenticatorFunc makes an [Authenticator] of a function. Its result is checked: an Identity
// outside its limits becomes [ErrBadReply], and one with a negative ExpiresIn becomes a *[Refusal]
// with code token_expired.
type AuthenticatorFunc func(ctx context.Context, req Request) (Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx context.Context, req Request) (Identity, error) {
	id, err := f(ctx, req)
	if err != nil {
		return Identity{}, err
	}
	return id.checked()
}

// Codes of a [Refusal] with a special meaning.
const (
	CodeTokenExpired = "token_expired" // the client should fetch a fresh token
	CodeForbidden    = "forbidden"     // no token of this user is accepted here
)

// Refusal is the error for a token that the backend refuses. Find it with errors.As.
type Refusal struct {
	// Code is the reason for programs: [CodeTokenExpired], [CodeForbidden], or any other string;
	// "refused" if the backend gave none. At most 64 bytes.
	Code string
	// Message is the reason for people, and may be empty. The client receives it. At most 200
	// bytes.
	Message string
	// RetryAfter is how long to wait before retrying with the same token; 0: do not retry. At most
	// an hour.
	RetryAfter time.Duration
}

// Error returns the code, the message and the time to retry.
func (r *Refusal) Error() string {
	if r == nil { // a bug in an Authenticator; its Responder must not crash
		return "auth: refused: nil"
	}
	var b strings.Builder
	b.WriteString("auth: refused: " + r.Code)
	if r.Message != "" {
		b.WriteString(": " + r.Message)
	}
	if r.RetryAfter > 0 {
		fmt.Fprintf(&b, " (retry in %v)", r.RetryAfter)
	}
	return b.String()
}

var (
	// ErrUnavailable means that no reply arrived in time, that NATS is unavailable, or that the
	// responder reported a failure of its own. It says nothing about the token; retry.
	ErrUnavailable = errors.New("auth: no answer")

	// ErrBusy wraps ErrUnavailable: too many requests are waiting, and this one was not sent.
	ErrBusy = fmt.Errorf("%w: busy", ErrUnavailable)

	// ErrBadReply means that the reply admits nobody: no user, invalid JSON, success that is not a
	// boolean, … It counts as a refusal. The error never contains the reply.
	ErrBadReply = errors.New("auth: bad reply")
)

// Unavailable is an ErrUnavailable too: so many requests had no reply that this one was not sent.
type Unavailable struct {
	// RetryAfter is how long to wait before retrying. It is random, so that clients do not retry
	// all at once.
	RetryAfter time.Duration
}

// Error returns the reason and the time to retry.
func (u *Unavailable) Error() string {
	return fmt.Sprintf("%v to earlier requests, so this one was not sent (retry in %v)", ErrUnavailable, u.RetryAfter.Round(time.Millisecond))
}

// Is reports whether target is ErrUnavailable.
func (u *Unavailable) Is(target error) bool { return target == ErrUnavailable }

// checked returns id without repeated topics. If id is not valid, it returns ErrBadReply or a
// *Refusal.
func (id Identity) checked() (Identity, error) {
	if err := checkName(id.User); err != nil {
		return Identity{}, fmt.Errorf("%w: user %w", ErrBadReply, err)
	}
	if err := checkTopics(id.Topics); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadReply, err)
	}
	if id.ExpiresIn < 0 {
		return Identity{}, expired()
	}
	id.Topics = unique(id.Topics)
	id.ExpiresIn = min(id.ExpiresIn, maxExpiry)
	return id, nil
}

func expired() *Refusal {
	return &Refusal{Code: CodeTokenExpired, Message: "the token has expired"}
}

func checkTopics(topics []string) error {
	if len(topics) > maxTopics {
		return fmt.Errorf("%d topics, at most %d are allowed", len(topics), maxTopics)
	}
	for i, topic := range topics {
		if err := checkName(topic); err != nil {
			return fmt.Errorf("topic %d %w", i+1, err)
		}
	}
	return nil
}

// checkName returns what is wrong with a user or topic, without quoting it.
func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxName:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), maxName)
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	case strings.ContainsRune(s, utf8.RuneError):
		// JSON decoders replace invalid bytes by U+FFFD, so two users' names could become the same.
		return errors.New("contains U+FFFD, the sign of a broken encoding")
	}
	return nil
}

// unique returns a copy of names without repeats, or nil if names is empty.
func unique(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		repeated := seen[name]
		seen[name] = true
		return repeated
	})
}
