// Package auth asks a backend whom a token belongs to, over NATS request/reply, and helps a backend to answer.
//
// A gateway holds an [Authenticator]: a [Requester] asks whoever listens on the subject, a [Table] or
// [TokenIsUser] answers in this process. A [Responder] serves any Authenticator on the subject. Whatever is not
// a clear yes is a no: nobody is admitted by silence, by an error or by a reply that cannot be understood.
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

// DefaultSubject is the subject questions are asked on. They carry tokens, and who answers them admits users:
// only responders may subscribe to it.
const DefaultSubject = "tidings.auth"

// Limits of what a reply may say. They keep one reply from costing a gateway much for as long as its user stays.
const (
	maxName    = 200  // bytes of a user or topic; encoded for a subject it only grows, and 200 is the limit there too
	maxTopics  = 1000 // per user
	maxCode    = 64   // bytes of Refusal.Code
	maxMessage = 200  // bytes of Refusal.Message
	maxExpiry  = 100 * 365 * 24 * time.Hour
	maxRetry   = time.Hour
)

// Identity is whom a token belongs to.
type Identity struct {
	// User is never empty: at most 200 bytes of valid UTF-8.
	User string
	// Topics are what the user may read besides their own notifications, in the order granted, without repeats;
	// nil: none. At most 1,000, each like User.
	Topics []string
	// ExpiresIn is how long this holds, from now on; 0: no end. Never negative, at most 100 years.
	ExpiresIn time.Duration
	// Asked is when the question was asked; zero where the Authenticator does not say. It may be before Authenticate was called, where
	// an answer on its way is shared. What happens to a user after it, the answer does not know of.
	Asked time.Time
}

// Authenticator says whom a token belongs to. *Requester, *Table and AuthenticatorFunc are some.
//
// A nil error means that the Identity is complete and valid. Otherwise the Identity is empty and the error is a
// *[Refusal] (the backend's "no"), [ErrUnavailable] (come again), [ErrBadReply] (a "no" too) or the context's.
// Authenticate returns when ctx ends, and is called from many goroutines at once.
type Authenticator interface {
	Authenticate(ctx context.Context, req Request) (Identity, error)
}

// AuthenticatorFunc is a function that is an [Authenticator]. What it returns is checked: an Identity that breaks
// its limits becomes [ErrBadReply], one with a negative ExpiresIn a *[Refusal] with code token_expired.
type AuthenticatorFunc func(ctx context.Context, req Request) (Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx context.Context, req Request) (Identity, error) {
	id, err := f(ctx, req)
	if err != nil {
		return Identity{}, err
	}
	return id.checked()
}

// Codes of a [Refusal] that have a meaning of their own.
const (
	CodeTokenExpired = "token_expired" // the client should fetch a fresh token
	CodeForbidden    = "forbidden"     // no token of this user is good here
)

// Refusal is the backend's "no". Find it with errors.As.
type Refusal struct {
	// Code says why, for programs: [CodeTokenExpired], [CodeForbidden], or anything else; "refused" if
	// the backend gave none. At most 64 bytes.
	Code string
	// Message says why, for people, and may be empty. It reaches the client. At most 200 bytes.
	Message string
	// RetryAfter says when to come again with the same token; 0: not at all. At most an hour.
	RetryAfter time.Duration
}

// Error names the code, the message and when to come again.
func (r *Refusal) Error() string {
	if r == nil { // a slip of an Authenticator, which its Responder must survive
		return "auth: refused: nil"
	}
	var b strings.Builder
	b.WriteString("auth: refused: " + r.Code)
	if r.Message != "" {
		b.WriteString(": " + r.Message)
	}
	if r.RetryAfter > 0 {
		fmt.Fprintf(&b, " (come again in %v)", r.RetryAfter)
	}
	return b.String()
}

var (
	// ErrUnavailable means that nobody answered in time, that NATS is away, or that the responder failed at its
	// job. It says nothing about the token: come again.
	ErrUnavailable = errors.New("auth: no answer")

	// ErrBusy is an ErrUnavailable: too many wait for an answer already, and this one was not asked.
	ErrBusy = fmt.Errorf("%w: busy", ErrUnavailable)

	// ErrBadReply means that the responder answered something that admits nobody: no user, bad JSON, success of
	// another type than boolean, … It is a refusal. The reply itself is never part of the error.
	ErrBadReply = errors.New("auth: bad reply")
)

// Unavailable is an ErrUnavailable too: so many questions had no answer that this one was not asked.
type Unavailable struct {
	// RetryAfter says when to come again. It differs from one to the next, so that not all come at once.
	RetryAfter time.Duration
}

// Error says when to come again.
func (u *Unavailable) Error() string {
	return fmt.Sprintf("%v to those before, this was not asked (come again in %v)", ErrUnavailable, u.RetryAfter.Round(time.Millisecond))
}

// Is makes it an ErrUnavailable.
func (u *Unavailable) Is(target error) bool { return target == ErrUnavailable }

// checked returns id with repeated topics left out, or why nobody may be admitted as it: ErrBadReply or a *Refusal.
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

// checkName says what is wrong with a user or topic, without repeating it.
func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxName:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), maxName)
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	case strings.ContainsRune(s, utf8.RuneError):
		// JSON decoders put U+FFFD where they could not read: two users' names could both become it.
		return errors.New("contains U+FFFD, which is what a broken encoding leaves behind")
	}
	return nil
}

// unique returns a copy of names without repeats, nil if there are none.
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
