package auth

import "context"

// ParseReply lets tests and the fuzzer read replies without a server.
func ParseReply(data []byte) (Identity, error) { return parseReply("token-1", data) }

// Without cuts a token out of a text.
var Without = without

// SetPause replaces the pause before the second try.
func (r *Requester) SetPause(pause func(ctx context.Context)) { r.pause = pause }

// TurnedAway counts the questions that found the queue full.
func (r *Responder) TurnedAway() int64 { return r.stats.turnedAway.Load() }

// Queued counts those who wait for a turn, and their hosts.
func (r *Requester) Queued() (waiting, hosts int) {
	r.turns.mu.Lock()
	defer r.turns.mu.Unlock()
	for at := r.turns.ring.Front(); at != nil; at = at.Next() {
		waiting += at.Value.(*line).waiting.Len()
	}
	return waiting, len(r.turns.hosts)
}

// Free counts the slots that nobody has.
func (r *Requester) Free() int {
	r.turns.mu.Lock()
	defer r.turns.mu.Unlock()
	return r.turns.free
}

// Closed says whether the breaker would let ask who has seen so many reconnects.
func (r *Requester) Closed(connection uint64) bool { return r.breaker.closed(connection, "") }

// Waiting counts the callers that wait for answers.
func (r *Requester) Waiting() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flights {
		n += f.waiting
	}
	return n
}
