package client

import "time"

// backoff is full jitter, as in "Exponential Backoff And Jitter" (AWS, 2015): a random time between nothing and a bound
// that doubles, so that the clients of a gateway that died do not come back together.
type backoff struct {
	least, most time.Duration
	rand        func() float64

	tries int
}

// next returns how long to wait before the next try, and counts it.
func (b *backoff) next() time.Duration {
	bound := min(b.least, b.most)
	for range b.tries {
		if bound >= b.most/2 {
			bound = b.most
			break
		}
		bound *= 2
	}
	b.tries++
	return time.Duration(b.rand() * float64(bound))
}

// soon returns the jitter of a first try, and counts nothing.
func (b *backoff) soon() time.Duration {
	return time.Duration(b.rand() * float64(min(b.least, b.most)))
}

func (b *backoff) reset() { b.tries = 0 }
