package auth

import "context"

// ParseReply lets tests and the fuzzer read replies without a server.
func ParseReply(data []byte) (Identity, error) { return parseReply("token-1", data) }

// SetPause replaces the pause before the second try.
func (r *Requester) SetPause(pause func(ctx context.Context)) { r.pause = pause }

// TurnedAway counts the questions that found the queue full.
func (r *Responder) TurnedAway() int64 { return r.stats.turnedAway.Load() }

// Waiting counts the callers that wait for answers.
func (r *Requester) Waiting() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flights {
		n += f.waiting
	}
	return n
}
