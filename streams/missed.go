package streams

import "errors"

// ErrMissed tells a reader that the stream has dropped messages while it could not be read, and that some may have been the
// reader's. Its position is good: who comes again with it learns what may be gone.
var ErrMissed = errors.New("the stream dropped messages while NATS was away")

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
