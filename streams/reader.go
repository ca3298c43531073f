package streams

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// ErrReplaced tells a reader that the stream is another one than before: deleted and made anew, restored, or declared so.
// Its position means nothing any more.
var ErrReplaced = errors.New("the stream was replaced")

// Source is a subject that a reader may read. One that is named twice counts once, as it was first.
type Source struct {
	Subject string
	After   uint64 // nothing up to this seq is read, whatever the reader's position
	Unread  uint64 // how many messages the stream held behind that at the mark, at most
}

// Entry is one message for a reader.
type Entry struct {
	Seq   uint64
	Time  time.Time // when it was stored
	Frame []byte    // what Encode made of it; shared, not to be changed
}

// Reader is a position in the stream and the subjects read from there, in stream order. It holds no queue: a reader that
// lags reads from the stream again what the Tail no longer has. One goroutine uses it; Wake may be read by the same one
// while it waits. Close it.
type Reader struct {
	tail    *Tail
	ring    *ring
	pos     uint64
	sources []source
	woken   chan struct{}
	warm    bool      // the position was in memory once: what was evicted since, the chains tell
	cold    *coldRead // while it lies before the Tail
	active  int       // how many sources had something to read there, when that was last found out; 0: not known
	fresh   bool      // it starts before the stream's first message, and nothing was given yet, nor that there is nothing
	told    uint64    // up to here messages may be gone, as the owner knows, or is to be told
	untold  uint64    // likewise, not yet told; 0: nothing
	until   time.Time // when a read of the stream gives up

	known  uint64        // the stream's last seq at the mark: what it dropped for messages up to there, the owner knows
	missed bool          // guarded by the ring
	purged atomic.Uint64 // up to here, since somebody asked
}

type source struct {
	Source           // Unread: as it is now
	chain  uint32    // place in the ring's list
	next   uint64    // index of the next entry, as far as known; 0: look for it
	over   time.Time // since when more are unread than the stream keeps; zero: they are not
}

// Reader returns a reader of the sources behind the position. The mark is the one by which the caller knows what may be missing at
// the start: ErrReplaced if it is not of the Tail's present epoch.
func (t *Tail) Reader(mark State, after uint64, sources []Source) (*Reader, error) {
	r := &Reader{
		tail: t, ring: t.current(), pos: after, woken: make(chan struct{}, 1),
		fresh: after < mark.Expired, told: mark.Expired, known: mark.Last,
	}
	if r.ring == nil || r.ring.epoch != mark.Epoch {
		return nil, ErrReplaced
	}
	r.ring.mu.Lock()
	defer r.ring.mu.Unlock()
	r.attach(sources)
	r.warm = after >= r.ring.base
	for i := range r.sources {
		s := &r.sources[i]
		s.Unread += r.ring.behind(s.chain, max(mark.Last, s.After))
	}
	return r, nil
}

// Sources replaces what the reader reads. A subject that is new to it is read from the reader's position.
func (r *Reader) Sources(sources []Source) {
	g := r.ring
	g.mu.Lock()
	defer g.mu.Unlock()
	old := r.sources
	r.detach()
	r.attach(sources)
	for i := range r.sources {
		s := &r.sources[i]
		known := slices.IndexFunc(old, func(o source) bool { return o.Subject == s.Subject })
		switch {
		case known >= 0:
			s.Unread, s.over = old[known].Unread, old[known].over
		case r.pos >= g.base:
			s.Unread = g.behind(s.chain, max(r.pos, s.After))
		default:
			s.Unread = g.through - min(g.through, max(r.pos, s.After))
		}
	}
	r.endCold()
	r.active = 0
	r.warm = r.pos >= g.base
}

func (r *Reader) attach(sources []Source) {
	r.sources = make([]source, 0, len(sources))
	for _, s := range sources {
		id := r.ring.chain(s.Subject)
		if slices.ContainsFunc(r.sources, func(have source) bool { return have.chain == id }) {
			continue
		}
		c := &r.ring.list[id]
		c.readers = append(c.readers, r)
		r.sources = append(r.sources, source{Source: s, chain: id})
	}
}

func (r *Reader) detach() {
	for _, s := range r.sources {
		c := &r.ring.list[s.chain]
		if i := slices.Index(c.readers, r); i >= 0 {
			last := len(c.readers) - 1
			c.readers[i], c.readers[last] = c.readers[last], nil
			c.readers = c.readers[:last]
		}
		r.ring.release(s.chain)
	}
	r.sources = nil
}

// Close ends the reader. Frames that it returned stay valid.
func (r *Reader) Close() {
	r.ring.mu.Lock()
	defer r.ring.mu.Unlock()
	r.endCold()
	r.detach()
}

// Position is how far the reader has read: everything of its sources up to there was returned. It moves with the stream also where
// nothing comes for the reader, at its next Read.
func (r *Reader) Position() uint64 { return r.pos }

// Wake is sent to when there may be more to read.
func (r *Reader) Wake() <-chan struct{} { return r.woken }

// Purged returns, once, up to where somebody has purged a subject of the reader's since the last call: what it had not read may be
// gone. 0 means that nobody has. It is as good as the audit by which the Tail learns of purges.
func (r *Reader) Purged() (through uint64) {
	return r.purged.Swap(0)
}

func (r *Reader) wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// Read appends to dst up to most entries behind the position and moves it. Fewer, and no error: the reader has caught up with
// the Tail, and returned at once. Older positions are read from the stream in batches, which takes as long as the stream
// does; then there can be an error, of NATS or of ctx, beside entries that came before it. The position stays behind what was
// returned, and the caller may try again. ErrReplaced and ErrMissed are final. A reader that starts before the stream's first message is
// ended by ErrMissed only once something was given; before that, Expired tells what else has gone.
func (r *Reader) Read(ctx context.Context, dst []Entry, most int) ([]Entry, error) {
	full := len(dst) + most
	for {
		var behind bool
		var err error
		dst, behind, err = r.readTail(dst, full-len(dst))
		if err == nil && behind {
			dst, err = r.readCold(ctx, dst, full-len(dst))
		}
		if err != nil || !behind || len(dst) == full {
			r.fresh = r.fresh && err != nil
			return dst, err
		}
	}
}

// SetDeadline has reads of the stream give up at that time with an error that is context.DeadlineExceeded, for a caller with other
// things to do. The next Read goes on where it was, also with what was asked of the stream and came meanwhile. What is in memory is
// read in no time.
func (r *Reader) SetDeadline(until time.Time) { r.until = until }

// Cold says whether the next Read would ask the stream, which may take long.
func (r *Reader) Cold() bool {
	g := r.ring
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.over != nil || r.pos >= g.visible() {
		return false
	}
	covered, err := r.covered()
	return !covered && err == nil
}

// readTail reads from memory; behind says that the position lies before it.
func (r *Reader) readTail(dst []Entry, most int) (_ []Entry, behind bool, err error) {
	g := r.ring
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch {
	case g.over != nil:
		return dst, false, g.over
	case r.missed || r.overrun(overrunFor):
		return dst, false, ErrMissed
	}
	visible := g.visible()
	if r.pos >= visible {
		return dst, false, nil
	}
	if covered, err := r.covered(); err != nil || !covered {
		return dst, err == nil, err
	}
	r.endCold()
	now := g.now().UnixNano()
	for n := 0; n < most; {
		best := -1
		var index uint64
		for i := range r.sources {
			if next := r.find(&r.sources[i]); next != 0 && (best < 0 || next < index) {
				best, index = i, next
			}
		}
		if best < 0 || g.at(index).seq > visible {
			r.pos = max(r.pos, visible)
			if best < 0 {
				r.allRead()
			}
			return dst, false, nil
		}
		e := g.at(index)
		switch {
		case e.removed(now):
		case !g.dropped(e, now):
			dst = append(dst, Entry{Seq: e.seq, Time: time.Unix(0, e.time), Frame: g.frame(index)})
			n++
			r.fresh = false
		case n > 0 && e.seq > r.told:
			return dst, false, nil // what came before it first
		case !r.mayMiss(0, e.seq):
			return dst, false, ErrMissed
		}
		r.sources[best].next = e.next
		r.sources[best].read(1, g.maxEach)
		r.pos = e.seq
	}
	return dst, false, nil
}

// covered says whether all that the stream holds behind the position is in memory. Nothing need be looked for that the stream has
// dropped, and the reader's owner knows that.
func (r *Reader) covered() (bool, error) {
	g := r.ring
	if r.warm {
		for i := range r.sources {
			s := &r.sources[i]
			if g.list[s.chain].evicted > max(r.pos, s.After) {
				r.warm = false
			}
		}
		return r.warm, nil
	}
	if r.pos < g.base {
		switch {
		case g.floor <= g.base:
			return false, nil
		case !r.mayMiss(r.pos, g.expired):
			return false, ErrMissed
		}
	}
	r.warm = true
	return true, nil
}

// find returns the index of the source's next entry behind the position, or 0. Where it is not known from the entry before,
// it is found from the newest backwards, a step for each message that is waiting.
func (r *Reader) find(s *source) uint64 {
	g := r.ring
	c := &g.list[s.chain]
	after := max(r.pos, s.After)
	if c.last == 0 || g.at(c.last).seq <= after {
		s.next = 0
		return 0
	}
	if s.next >= g.first && s.next >= c.first && g.at(s.next).seq > after {
		return s.next
	}
	s.next = c.last
	for {
		prev := g.at(s.next).prev
		if prev < c.first || prev == 0 || g.at(prev).seq <= after {
			return s.next
		}
		s.next = prev
	}
}
