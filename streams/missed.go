package streams

import (
	"errors"
	"math"
	"time"
)

// ErrMissed tells a reader that the stream has dropped messages which the reader had not yet read, or may have: while NATS was away,
// or because the reader lags further than the stream's limits allow. Its position is good: who comes again with it learns what
// may be gone.
var ErrMissed = errors.New("the stream dropped messages before they could be read")

// overrunFor is how long messages that the stream has dropped for newer ones of their subject are still read from memory. A reader
// that needs longer has lost them.
const overrunFor = 4 * time.Second

// catchUp counts what is read of each subject behind a hole: after an absence, or where the stream dropped messages before they
// could be read. A subject that brings as many messages as the stream keeps of it may have had more. Until that is known, readers get
// nothing from behind the hole, or they would come again with a position that lies past it.
type catchUp struct {
	from    uint64 // the hole lies behind this
	through uint64 // what the stream dropped, it dropped for messages up to here; unknown: not yet known
	limit   int64
	seen    map[uint32]int64 // by chain; nil: there is no hole
}

const unknown = math.MaxUint64

// absent notes that the stream went on to last unread. With no more messages than its limit no subject can have lost any.
func (r *ring) absent(last uint64, limit int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = last
	if limit > 0 && last >= r.visible()+uint64(limit) {
		r.catch(last, limit)
	} else {
		r.caughtUp()
	}
}

// catch is called with mu held.
func (r *ring) catch(through uint64, limit int64) {
	if r.catching.seen == nil {
		r.catching = catchUp{from: r.through, limit: limit, seen: map[uint32]int64{}}
	}
	r.catching.through = through
}

// skipped notes, before a message is added, whether there is a hole between it and the one before: something that was stored since
// the consumer began is gone already. How far the stream is by then must be found out.
func (r *ring) skipped(seq uint64) bool {
	if seq <= r.through+1 || seq <= r.begun {
		return false
	}
	limit := r.maxEach
	if limit <= 0 {
		limit = math.MaxInt64 // it is age or bytes, if anything, by which the stream dropped it
	}
	r.catch(unknown, limit)
	r.holes++
	return true
}

// bound says how far the stream was after so many holes had been found.
func (r *ring) bound(last uint64, holes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.catching
	if c.seen == nil || holes != r.holes {
		return
	}
	c.through = last
	if r.through >= last || last < c.from+uint64(c.limit) {
		r.caughtUp()
	}
}

// holeBefore says that the hole reaches into what the stream drops whatever its subject.
func (r *ring) holeBefore(expired uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.catching.seen != nil && r.catching.from < expired
}

func (r *ring) holesFound() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.holes
}

// visible is how far readers may read.
func (r *ring) visible() uint64 {
	if r.catching.seen != nil {
		return r.catching.from
	}
	return r.through
}

func (r *ring) readable() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.visible()
}

// caught counts a message of a chain.
func (r *ring) caught(id uint32) {
	if r.catching.seen != nil {
		r.catching.seen[id]++
	}
}

// caughtUp lets readers go on, but those who may have missed something. It is called with mu held.
func (r *ring) caughtUp() {
	c := r.catching
	if c.seen == nil {
		return
	}
	r.catching = catchUp{}
	for id, n := range c.seen {
		for _, reader := range r.list[id].readers {
			reader.missed = reader.missed || n >= c.limit && reader.known < c.through
		}
	}
	for i := range r.list {
		for _, reader := range r.list[i].readers {
			reader.wake()
		}
	}
	r.letGo()
}

// mayMiss says whether the reader may go on behind a hole that ends there: its owner knows of it, or knows of one at the start which
// has grown before anything was given, and is told first. A stream that drops its oldest all the time would else end every reader
// that starts before its first message.
func (r *Reader) mayMiss(after, through uint64) bool {
	if through > max(after, r.told) {
		if !r.fresh {
			return false
		}
		r.told, r.untold = through, through
	}
	return true
}

// Expired says, once, up to where messages have gone since the mark, before any was given to a reader that starts before the stream's
// first: what lies between its start and there may be missing. It is to be asked after each Read, and told before what that
// returned; 0 is nothing to tell, or nothing yet.
func (r *Reader) Expired() (through uint64) {
	if !r.fresh {
		through, r.untold = r.untold, 0
	}
	return through
}

// Reported says up to where the owner has reported what Expired returned, or what it knew at the start: less, if memory still had some of
// it, which was returned. If the stream's loss reaches the rest before that was read, it is ErrMissed.
func (r *Reader) Reported(through uint64) { r.told = min(r.told, through) }

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

// read notes so many less.
func (s *source) read(n int, most int64) {
	s.Unread -= min(s.Unread, uint64(n))
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
