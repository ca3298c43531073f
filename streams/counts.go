package streams

import (
	"context"
	"math"
	"sync"
)

// counts remember how many messages subjects had, so that of the thousands who read one topic not each has the server count. It does so
// again where the stream has grown by what was missing to the limit, whatever of.
type counts struct {
	mu    sync.Mutex
	known map[string]counted
}

type counted struct {
	epoch string
	have  uint64
	last  uint64 // the stream's, before it was counted: each message since may be one more
}

const countsMost = 1000 // of them are remembered

// AtMost is how many messages of the subject the stream may have got behind a seq, up to the mark, at most. From enough on that is what
// the stream holds of it in all; fewer need not be asked for where memory or an earlier answer tells.
func (t *Tail) AtMost(ctx context.Context, mark State, subject string, after, enough uint64) (uint64, error) {
	if n := t.behind(mark, subject, after, enough); n < enough {
		return n, nil
	}
	c := &t.counts
	c.mu.Lock()
	known, ok := c.known[subject]
	c.mu.Unlock()
	if ok && known.epoch == mark.Epoch {
		if n := known.have + mark.Last - min(mark.Last, known.last); n < enough {
			return n, nil
		}
	}
	have, err := t.stream.Count(ctx, subject)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= countsMost {
		c.known = map[string]counted{}
	}
	c.known[subject] = counted{mark.Epoch, have, mark.Last}
	return have, nil
}

// behind counts in memory, and no further than to enough. It is without bound where memory does not tell.
func (t *Tail) behind(mark State, subject string, after, enough uint64) uint64 {
	r := t.current()
	if r == nil || r.epoch != mark.Epoch {
		return math.MaxUint64
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if after < r.base || r.catching.seen != nil {
		return math.MaxUint64
	}
	n := mark.Last - min(mark.Last, r.through) // if all that was not yet read were of it
	if id, ok := r.chains[subject]; ok {
		for i := r.list[id].last; n < enough && i != 0 && i >= r.first && r.at(i).seq > after; i = r.at(i).prev {
			n++
		}
	}
	return n
}
