package streams

import (
	"math"
	"sort"
	"sync"
	"time"
)

// ring is the newest part of the stream in memory, for one epoch: every message of the sequences (base, through] that the
// stream still held when it was read. Entries lie in stream order, each linked to its neighbours of the same subject, so that
// a reader steps over everybody else's. Entries and frames hold no pointers: a million of them cost the collector nothing.
type ring struct {
	epoch    string
	maxBytes int64

	mu      sync.RWMutex
	over    error  // why another ring has taken its place: ErrReplaced or ErrMissed
	base    uint64 // everything behind this seq, up to through, is here
	through uint64 // the stream has been read up to here
	floor   uint64 // the stream's first seq: what lies before it is gone
	expired uint64 // up to here something may be gone

	maxAge   time.Duration // of the stream, by which entries go without a word from it
	maxEach  int64         // messages of one subject that the stream keeps; <= 0: all
	serverAt time.Time     // what the server's clock said …
	localAt  time.Time     // … when ours said this; its monotonic reading keeps jumps of our clock out

	segments []*segment
	first    uint64 // index of the oldest entry; indices start at 1 and are never used again
	next     uint64 // index of the next entry
	bytes    int64

	chains  map[string]uint32 // subject → place in list
	list    []chain
	free    []uint32
	waiters []waiter

	begun    uint64 // what the stream held up to here when the consumer began may have holes
	holes    int    // found since
	catching catchUp
}

// chain links the entries of one subject.
type chain struct {
	subject     string
	first, last uint64    // indices; 0: none
	evicted     uint64    // seq of the newest that is no longer in memory, since the chain was made
	readers     []*Reader // to be woken
}

type entry struct {
	seq        uint64
	time       int64 // ns since 1970
	expires    int64 // likewise; 0: when the stream's limits say; MaxInt64: never; or deleted, or purged
	prev, next uint64
	chain      uint32
	slab       uint32
	off, size  uint32
}

// segment holds segmentEntries entries, and their frames in slabs that are never written twice, so that a frame may be read
// without a lock and outlives its entry for as long as somebody holds it.
type segment struct {
	entries []entry
	slabs   [][]byte
}

const (
	segmentEntries = 256
	slabLeast      = 8 << 10 // for eight messages like the first, within bounds: what stays unused is memory that nobody counts
	slabMost       = 256 << 10
	entrySize      = 64 // what an entry counts beside its frame, in bytes
)

// Times at which entries expire that somebody has removed.
const (
	deleted = 1
	purged  = 2
)

type waiter struct {
	seq  uint64
	done chan struct{}
}

func newRing(epoch string, base uint64, maxBytes int64) *ring {
	return &ring{
		epoch: epoch, base: base, through: base, maxBytes: maxBytes,
		first: 1, next: 1, // index 0 names no entry
		chains: map[string]uint32{},
	}
}

// segment holds the index; the first segment is the one of r.first.
func (r *ring) segment(index uint64) *segment {
	return r.segments[index/segmentEntries-r.first/segmentEntries]
}

func (r *ring) at(index uint64) *entry {
	return &r.segment(index).entries[index%segmentEntries]
}

func (r *ring) frame(index uint64) []byte {
	e := r.at(index)
	return r.segment(index).slabs[e.slab][e.off : e.off+e.size : e.off+e.size]
}

// append adds the message after all others, its frame made by encode straight into the ring's memory. It says whether there was a
// hole before it.
func (r *ring) append(m *Message, encode func([]byte, *Message) []byte) (hole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Seq <= r.through {
		return false
	}
	hole = r.skipped(m.Seq)
	id := r.chain(m.Subject)
	r.caught(id)
	c := &r.list[id]

	if n := len(r.segments); n == 0 || len(r.segments[n-1].entries) == segmentEntries {
		r.segments = append(r.segments, &segment{entries: make([]entry, r.next%segmentEntries, segmentEntries)})
	}
	s := r.segments[len(r.segments)-1]
	e := entry{seq: m.Seq, time: m.Time.UnixNano(), prev: c.last, chain: id}
	if !m.Expires.IsZero() {
		e.expires = m.Expires.UnixNano()
	}
	e.slab, e.off, e.size = s.write(m, encode)
	s.entries = append(s.entries, e)

	index := r.next
	r.next++
	if c.last != 0 {
		r.at(c.last).next = index
	} else {
		c.first = index
	}
	c.last = index
	r.bytes += int64(e.size) + entrySize
	r.advanceLocked(m.Seq)
	for _, reader := range c.readers {
		reader.count(id, r.maxEach)
		reader.wake()
	}
	for r.bytes > r.maxBytes && r.first < r.next {
		r.evict()
	}
	return hole
}

// write puts the frame behind the others of the newest slab. Where it does not fit after all, since escaping made it longer,
// encode's append moves the slab.
func (s *segment) write(m *Message, encode func([]byte, *Message) []byte) (slab, off, size uint32) {
	if n := len(s.slabs); n == 0 || cap(s.slabs[n-1])-len(s.slabs[n-1]) < len(m.Data)+256 {
		need := len(m.Data) + 512
		s.slabs = append(s.slabs, make([]byte, 0, max(slabLeast, min(slabMost, 8*need), need)))
	}
	last := len(s.slabs) - 1
	old := s.slabs[last]
	s.slabs[last] = encode(old, m)
	return uint32(last), uint32(len(old)), uint32(len(s.slabs[last]) - len(old))
}

// evict drops the oldest entry from memory; the stream still has it.
func (r *ring) evict() {
	e := r.at(r.first)
	c := &r.list[e.chain]
	c.evicted = e.seq
	if c.first == r.first {
		c.first = e.next
		if c.first == 0 {
			c.last = 0
			r.release(e.chain)
		} else {
			r.at(c.first).prev = 0
		}
	}
	r.base = e.seq
	r.bytes -= int64(e.size) + entrySize
	if e.slab > 0 {
		r.segments[0].slabs[e.slab-1] = nil // or 256 large messages would stay until the last of them goes
	}
	r.first++
	if r.first%segmentEntries == 0 {
		r.segments[0] = nil
		r.segments = r.segments[1:]
	}
}

// advance notes that the stream has been read up to seq, where nothing lay between.
func (r *ring) advance(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advanceLocked(seq)
}

func (r *ring) advanceLocked(seq uint64) {
	if seq <= r.through {
		return
	}
	r.through = seq
	if c := &r.catching; c.seen != nil && seq >= c.through {
		r.caughtUp()
	}
	r.letGo()
}

// letGo ends the waits for what may now be read.
func (r *ring) letGo() {
	visible := r.visible()
	keep := r.waiters[:0]
	for _, w := range r.waiters {
		if w.seq <= visible {
			close(w.done)
		} else {
			keep = append(keep, w)
		}
	}
	r.waiters = keep
}

// limits notes what the stream drops on its own.
func (r *ring) limits(st State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.floor, r.expired, r.maxAge, r.maxEach = st.First, st.Expired, st.MaxAge, st.MaxMsgsPerSubject
	r.serverAt, r.localAt = st.Now, time.Now()
}

// now is the server's time, which is that of the messages and of their end.
func (r *ring) now() time.Time {
	return r.serverAt.Add(time.Since(r.localAt))
}

// replace ends this epoch and wakes everybody who waits for more of it.
func (r *ring) replace(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = why
	for i := range r.list {
		for _, reader := range r.list[i].readers {
			reader.wake()
		}
	}
	for _, w := range r.waiters {
		close(w.done)
	}
	r.waiters = nil
}

// wait returns a channel that is closed once readers may read up to seq, or the epoch is over.
func (r *ring) wait(seq uint64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := make(chan struct{})
	if r.visible() >= seq || r.over != nil {
		close(done)
	} else {
		r.waiters = append(r.waiters, waiter{seq, done})
	}
	return done
}

// chain finds the subject's place in list, or makes one.
func (r *ring) chain(subject string) uint32 {
	if id, ok := r.chains[subject]; ok {
		return id
	}
	var id uint32
	if n := len(r.free); n > 0 {
		id, r.free = r.free[n-1], r.free[:n-1]
	} else {
		id = uint32(len(r.list))
		r.list = append(r.list, chain{})
	}
	r.list[id] = chain{subject: subject}
	r.chains[subject] = id
	return id
}

// release forgets a chain that nobody needs.
func (r *ring) release(id uint32) {
	if c := &r.list[id]; c.last == 0 && len(c.readers) == 0 {
		delete(r.chains, c.subject)
		*c = chain{}
		r.free = append(r.free, id)
	}
}

// removed says whether the entry was deleted, or is past its own TTL: that is meant.
func (e *entry) removed(now int64) bool { return e.expires != 0 && e.expires <= now }

// ended reports whether the entry is gone as its publisher or an operator meant for this very message: a purge takes what it finds.
func (e *entry) ended(now int64) bool { return e.removed(now) && e.expires != purged }

// search returns the index of the first entry at the seq or behind it.
func (r *ring) search(seq uint64) (index uint64) {
	n := int(r.next - r.first)
	return r.first + uint64(sort.Search(n, func(i int) bool { return r.at(r.first+uint64(i)).seq >= seq }))
}

// dropped says whether the stream's limits have taken the entry since, as far as is known.
func (r *ring) dropped(e *entry, now int64) bool {
	return e.seq < r.floor || r.maxAge > 0 && e.expires != math.MaxInt64 && e.time+int64(r.maxAge) <= now
}

func (r *ring) position() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.through
}

// newest returns the last entry; false where there is none.
func (r *ring) newest() (seq uint64, stored time.Time, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.first == r.next {
		return 0, time.Time{}, false
	}
	e := r.at(r.next - 1)
	return e.seq, time.Unix(0, e.time), true
}

// newestLeft is the last entry that the stream still has, as far as is known. Behind it the stream has nothing up to where it was read.
// It does not look far for it.
func (r *ring) newestLeft() (seq uint64, subject string, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.now().UnixNano()
	const far = 10_000
	for index := r.next - 1; index >= r.first && r.next-index < far; index-- {
		if e := r.at(index); !e.removed(now) && !r.dropped(e, now) {
			return e.seq, r.list[e.chain].subject, true
		}
	}
	return 0, "", false
}
