package client

import "time"

// backoff computes waits with full jitter, as in "Exponential Backoff And Jitter" (AWS, 2015): a
// random time between zero and a bound that doubles. This keeps the clients of a gateway that died
// from reconnecting at the same moment.
type backoff struct {
	min, max time.Duration
	rand     func() float64

	tries int
}

// next returns how long to wait before the next attempt, and counts the attempt.
func (b *backoff) next() time.Duration {
	bound := min(b.min, b.max)
	for range b.tries {
		if bound >= b.max/2 {
			bound = b.max
			break
		}
		bound *= 2
	}
	b.tries++
	return time.Duration(b.rand() * float64(bound))
}

// first returns the wait before a first attempt, and does not count it.
func (b *backoff) first() time.Duration {
	return time.Duration(b.rand() * float64(min(b.min, b.max)))
}

func (b *backoff) reset() { b.tries = 0 }
