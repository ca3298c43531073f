package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// flight is one request on its way, shared by the callers that wait for its reply.
type flight struct {
	// Static.
	key    [sha256.Size]byte
	asked  time.Time
	cancel context.CancelFunc

	// Guarded by Requester.mu.
	waiting int
	sent    bool        // the backend has the request
	late    func(error) // gets the reply for a caller that left

	// Readable once done is closed.
	done   chan struct{}
	answer *nats.Msg
	err    error
}

// key is a hash that is equal for requests that can share a flight. It does not reveal the token.
func (r Request) key() [sha256.Size]byte {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	hash := sha256.New()
	for _, part := range []string{r.Token, r.Origin, host, r.Device} {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(part), part) // never fails for a hash
	}
	_, _ = fmt.Fprint(hash, r.Renew)
	return [sha256.Size]byte(hash.Sum(nil))
}

// join returns the flight for a request: the current one for an equal request, or a new one.
func (r *Requester) join(ctx context.Context, req Request) *flight {
	key := req.key()
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.flights[key]
	if f == nil {
		// The flight keeps the values of the first caller's context, such as a trace, but does not end with it.
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{key: key, asked: time.Now(), cancel: cancel, done: make(chan struct{})}
		r.flights[key] = f
		go r.run(ctx, f, req)
	}
	f.waiting++
	return f
}

// run sends the request and finishes the flight. It ends at its own timeouts, or before it sends if
// no caller waits any more.
func (r *Requester) run(ctx context.Context, f *flight, req Request) {
	defer f.cancel()
	f.answer, f.err = r.askTwice(ctx, f, req)
	r.mu.Lock()
	r.remove(f)
	close(f.done)
	late := f.late
	r.mu.Unlock()
	if late != nil {
		_, err := f.read(req.Token)
		late(err)
	}
}

// read returns the reply. Call it after done is closed. Each caller reads for itself, and may
// modify the result.
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

// WithLate returns a context for [Requester.Authenticate]. If the context ends before the reply
// arrives, late is called with the error of the reply, or nil if the token is valid. If several
// callers share a request, late is called once. It must not block.
func WithLate(ctx context.Context, late func(error)) context.Context {
	return context.WithValue(ctx, lateKey{}, late)
}

// abandon passes the reply to the function of [WithLate]. It returns false if the reply has already
// arrived.
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

// leave removes one caller. If none is left, a request that has not been sent is cancelled and
// leaves the queue. One that has been sent stays until its reply or timeout: the backend works on
// it, so it must keep its slot, and a client that reconnects meanwhile joins it instead of sending
// another.
func (r *Requester) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiting--
	r.cancelUnwanted(f)
}

// setSent marks a request as sent, or as no longer on its way. It reports whether a caller waits
// for the reply.
func (r *Requester) setSent(f *flight, sent bool) (wanted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.sent = sent && f.waiting > 0
	r.cancelUnwanted(f)
	return f.waiting > 0
}

func (r *Requester) cancelUnwanted(f *flight) {
	if f.waiting == 0 && !f.sent {
		r.remove(f)
		f.cancel()
	}
}

// remove ensures that no caller joins the flight any more.
func (r *Requester) remove(f *flight) {
	if r.flights[f.key] == f {
		delete(r.flights, f.key)
	}
}
