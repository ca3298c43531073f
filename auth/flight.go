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

	waiting int // guarded by Requester.mu

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

// fly asks. It ends by its own timeouts, or when nobody waits any more.
func (r *Requester) fly(ctx context.Context, f *flight, req Request) {
	defer f.cancel()
	f.answer, f.err = r.askTwice(ctx, req)
	r.mu.Lock()
	r.land(f)
	r.mu.Unlock()
	close(f.done)
}

// leave takes one from those who wait.
func (r *Requester) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
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
