package auth

import "context"

// ParseReply parses a reply without a server.
func ParseReply(data []byte) (Identity, error) { return parseReply("token-1", data) }

// Redact removes a token from a text.
var Redact = redact

// SetPause replaces the pause before the second attempt.
func (r *Requester) SetPause(pause func(ctx context.Context)) { r.pause = pause }

// TurnedAway returns the number of requests that were rejected because the queue was full.
func (r *Responder) TurnedAway() int64 { return r.stats.turnedAway.Load() }

// Queued returns the number of callers that wait for a slot, and of their hosts.
func (r *Requester) Queued() (waiting, hosts int) {
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	for at := r.slots.ring.Front(); at != nil; at = at.Next() {
		waiting += at.Value.(*hostQueue).waiting.Len()
	}
	return waiting, len(r.slots.hosts)
}

// Free returns the number of free slots.
func (r *Requester) Free() int {
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	return r.slots.free
}

// Allowed reports whether the breaker allows a request on the connection after that many
// reconnects.
func (r *Requester) Allowed(connection uint64) bool { return r.breaker.allows(connection, "") }

// Waiting returns the number of callers that wait for replies.
func (r *Requester) Waiting() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flights {
		n += f.waiting
	}
	return n
}
