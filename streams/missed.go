package streams

import (
	"errors"
	"time"
)

// ErrMissed tells a reader that the stream has dropped messages which the reader had not yet read, or may have: while NATS was away,
// or because the reader lags further than the stream's limits allow. Its position is good: who comes again with it learns what
// may be gone.
var ErrMissed = errors.New("the stream dropped messages before they could be read")

// overrunFor is how long messages that the stream has dropped for newer ones of their subject are still read from memory. A reader
// that needs longer has lost them.
const overrunFor = 4 * time.Second

// catchUp counts, after an absence, what is read of each subject. One that brings as many messages as the stream keeps of it may
// have had more.
type catchUp struct {
	through uint64 // the absence ends here
	limit   int64
	seen    map[uint32]int64 // by chain; nil: nobody was absent
}

// absent notes that the stream went on to last unread. With no more messages than its limit no subject can have lost any.
func (r *ring) absent(last uint64, limit int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit > 0 && last >= r.through+uint64(limit) {
		r.catching = catchUp{through: last, limit: limit, seen: map[uint32]int64{}}
	}
}

// caught counts a message of a chain.
func (r *ring) caught(id uint32, seq uint64) {
	c := &r.catching
	if c.seen == nil {
		return
	}
	if seq > c.through {
		*c = catchUp{}
		return
	}
	if c.seen[id]++; c.seen[id] == c.limit {
		for _, reader := range r.list[id].readers {
			reader.missed = true
			reader.wake()
		}
	}
}

// behind counts the entries of a chain behind a seq.
func (r *ring) behind(id uint32, seq uint64) (n uint64) {
	for i := r.list[id].last; i != 0 && i >= r.first && r.at(i).seq > seq; i = r.at(i).prev {
		n++
	}
	return n
}

// count notes one more message to read on the chain, of which the stream keeps at most so many.
func (r *Reader) count(chain uint32, most int64) {
	for i := range r.sources {
		s := &r.sources[i]
		if s.chain != chain {
			continue
		}
		if s.Unread++; most > 0 && s.Unread > uint64(most) && s.over.IsZero() {
			s.over = time.Now()
		}
	}
}

// read notes one less.
func (s *source) read(most int64) {
	if s.Unread > 0 {
		s.Unread--
	}
	if s.Unread <= uint64(max(0, most)) {
		s.over = time.Time{}
	}
}

// allRead notes that none is left. Of what was counted some may have been deleted.
func (r *Reader) allRead() {
	for i := range r.sources {
		r.sources[i].Unread, r.sources[i].over = 0, time.Time{}
	}
}

// overrun says that the stream has, for so long, had more new messages of a subject than it keeps: the oldest of those that the
// reader has not read are gone.
func (r *Reader) overrun(since time.Duration) bool {
	for i := range r.sources {
		if s := &r.sources[i]; !s.over.IsZero() && time.Since(s.over) >= since {
			return true
		}
	}
	return false
}
