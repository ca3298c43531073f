package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// flight is a question on its way, and those who wait for its answer.
type flight struct {
	// Static.
	key    [sha256.Size]byte
	asked  time.Time
	cancel context.CancelFunc

	// Guarded by Requester.mu.
	waiting int
	sent    bool        // the backend has the question
	late    func(error) // of a caller that left

	// Readable once done is closed.
	done   chan struct{}
	answer *nats.Msg
	err    error
}

// key is what questions that are one have in common: a hash, which is no token.
func (r Request) key() [sha256.Size]byte {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	hash := sha256.New()
	for _, part := range []string{r.Token, r.Origin, host, r.Device} {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(part), part) // a hash never fails
	}
	_, _ = fmt.Fprint(hash, r.Renew)
	return [sha256.Size]byte(hash.Sum(nil))
}

// join returns the flight of a question. It is a new one unless the same is on its way.
func (r *Requester) join(ctx context.Context, req Request) *flight {
	key := req.key()
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.flights[key]
	if f == nil {
		// What hangs on the context, such as a trace, is the first caller's, but not its end.
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{key: key, asked: time.Now(), cancel: cancel, done: make(chan struct{})}
		r.flights[key] = f
		go r.fly(ctx, f, req)
	}
	f.waiting++
	return f
}

// fly asks. It ends by its own timeouts, or before it asks if nobody waits any more.
func (r *Requester) fly(ctx context.Context, f *flight, req Request) {
	defer f.cancel()
	f.answer, f.err = r.askTwice(ctx, f, req)
	r.mu.Lock()
	r.land(f)
	close(f.done)
	late := f.late
	r.mu.Unlock()
	if late != nil {
		_, err := f.read(req.Token)
		late(err)
	}
}

// read returns the answer, once done is closed. Each caller reads it for itself, and may change what it gets.
func (f *flight) read(token string) (Identity, error) {
	if f.err != nil {
		return Identity{}, f.err
	}
	id, err := parseAnswer(token, f.answer)
	if err != nil {
		return Identity{}, err
	}
	id.Asked = f.asked
	return id, nil
}

type lateKey struct{}

// WithLate returns a context for [Requester.Authenticate]. If it ends before the answer comes, late gets the error of the answer, nil if
// the token is good: once, if several callers were one question. It must not block.
func WithLate(ctx context.Context, late func(error)) context.Context {
	return context.WithValue(ctx, lateKey{}, late)
}

// abandon leaves the function of [WithLate] to get the answer, and reports false if the answer is there already.
func (r *Requester) abandon(ctx context.Context, f *flight) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-f.done:
		return false
	default:
	}
	if late, _ := ctx.Value(lateKey{}).(func(error)); late != nil {
		f.late = late
	}
	return true
}

// leave removes one caller. If none is left, a question that has not been sent is cancelled and gives up its place in the queue. One that
// has been sent stays until it is answered or times out: the backend works on it, so it must keep its slot, and a client that reconnects
// meanwhile joins it instead of asking again.
func (r *Requester) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiting--
	r.cancelUnwanted(f)
}

// setSent marks a question as sent, or as no longer on its way. It reports whether a caller waits for the answer.
func (r *Requester) setSent(f *flight, sent bool) (wanted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.sent = sent && f.waiting > 0
	r.cancelUnwanted(f)
	return f.waiting > 0
}

func (r *Requester) cancelUnwanted(f *flight) {
	if f.waiting == 0 && !f.sent {
		r.land(f)
		f.cancel()
	}
}

// land lets nobody join any more.
func (r *Requester) land(f *flight) {
	if r.flights[f.key] == f {
		delete(r.flights, f.key)
	}
}
