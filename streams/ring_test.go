package streams

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func encodeSeq(dst []byte, m *Message) []byte { return fmt.Appendf(dst, "%d:%s", m.Seq, m.Data) }

// model is the ring as one would write it without a care for memory.
type model struct {
	t        *testing.T
	ring     *ring
	messages []Message // all that was ever stored
	removed  map[uint64]bool
	readers  []*modelReader
}

type modelReader struct {
	*Reader
	sources []Source
}

func (m *model) wants(r *modelReader) (frames []string) {
	for i := range m.messages {
		msg := &m.messages[i]
		for _, s := range r.sources {
			if s.Subject == msg.Subject && msg.Seq > max(r.pos, s.After) && msg.Seq >= m.ring.floor && !m.removed[msg.Seq] {
				frames = append(frames, fmt.Sprintf("%d:%s", msg.Seq, msg.Data))
				break
			}
		}
	}
	return frames
}

// Any order of appends, evictions, readers, removals and limits leaves every reader with exactly its own messages.
func TestRingAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testRing(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func testRing(t *testing.T, rng *rand.Rand) {
	first := rng.Uint64N(1000)
	m := &model{t: t, ring: newRing("e", first, 2000+rng.Int64N(60_000)), removed: map[uint64]bool{}}
	m.ring.limits(State{First: first + 1, Now: time.Now()})
	subjects := 1 + rng.IntN(30)
	subject := func() string { return fmt.Sprint("s", rng.IntN(subjects)) }
	sources := func() (all []Source) {
		for range rng.IntN(4) {
			if s := subject(); !slices.ContainsFunc(all, func(have Source) bool { return have.Subject == s }) {
				all = append(all, Source{Subject: s, After: m.ring.through - min(m.ring.through, rng.Uint64N(50))})
			}
		}
		return all
	}
	for range 2000 {
		switch p := rng.IntN(100); {
		case p < 70:
			msg := Message{
				Seq: m.ring.through + 1 + rng.Uint64N(3)/2, Subject: subject(), Time: time.Now(),
				Data: fmt.Appendf(nil, "%0*d", 1+rng.IntN(400), rng.Int()),
			}
			m.messages = append(m.messages, msg)
			if m.ring.append(&msg, encodeSeq) { // what lay between was deleted, as the stream then shows
				m.ring.bound(m.ring.through, m.ring.holes)
			}
		case p < 73:
			m.ring.advance(m.ring.through + rng.Uint64N(5))
		case p < 76:
			back := m.ring.through - min(m.ring.through, rng.Uint64N(60))
			r := &modelReader{
				Reader:  &Reader{ring: m.ring, pos: max(m.ring.base, back), woken: make(chan struct{}, 1)},
				sources: sources(),
			}
			r.attach(r.sources)
			m.readers = append(m.readers, r)
		case p < 78 && len(m.readers) > 0:
			i := rng.IntN(len(m.readers))
			m.readers[i].Close()
			m.readers = slices.Delete(m.readers, i, i+1)
		case p < 80 && len(m.readers) > 0:
			r := m.readers[rng.IntN(len(m.readers))]
			r.sources = sources()
			r.Sources(r.sources)
		case p < 81:
			first := m.ring.through - min(m.ring.through, rng.Uint64N(200))
			m.ring.limits(State{First: first, Expired: first - min(first, 1), Now: time.Now()})
		case p < 83 && len(m.messages) > 0:
			msg := m.messages[len(m.messages)-1-rng.IntN(min(40, len(m.messages)))]
			m.removed[msg.Seq] = true
			m.ring.remove(msg.Seq)
		case len(m.readers) > 0:
			m.read(m.readers[rng.IntN(len(m.readers))], 1+rng.IntN(10))
		}
		m.check()
	}
	for _, r := range m.readers {
		m.read(r, len(m.messages)+1)
		r.Close()
	}
	for m.ring.first < m.ring.next {
		m.ring.evict()
	}
	m.check()
	if len(m.ring.chains) > 0 || len(m.ring.free) != len(m.ring.list) || m.ring.bytes != 0 {
		t.Errorf("left behind: %d chains, %d of %d places in use, %d bytes",
			len(m.ring.chains), len(m.ring.list)-len(m.ring.free), len(m.ring.list), m.ring.bytes)
	}
}

func (m *model) read(r *modelReader, most int) {
	want := m.wants(r)
	got, behind, err := r.readTail(nil, most)
	for tries := 0; behind || errors.Is(err, ErrMissed); tries++ {
		switch {
		case tries == 3:
			m.t.Fatalf("behind %v, %v, at %d", behind, err, r.pos)
		case behind && r.pos >= m.ring.base:
			m.t.Fatalf("at %d, and memory begins at %d", r.pos, m.ring.base)
		case behind: // the stream's turn
			r.pos = m.ring.base
		case m.ring.floor <= r.pos+1:
			m.t.Fatalf("missed something at %d, the stream begins at %d", r.pos, m.ring.floor)
		default: // its owner knows now
			r.told = m.ring.expired
		}
		want = m.wants(r)
		got, behind, err = r.readTail(nil, most)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	more := len(want) >= most
	want = want[:min(most, len(want))]
	if frames := framesOf(got); !slices.Equal(frames, want) {
		m.t.Fatalf("read %q, want %q", frames, want)
	}
	if !more && r.pos < m.ring.through {
		m.t.Fatalf("at %d of %d, with nothing more to read", r.pos, m.ring.through)
	}
}

func framesOf(entries []Entry) (frames []string) {
	for _, e := range entries {
		frames = append(frames, string(e.Frame))
	}
	return frames
}

// check holds what must always be true of a ring.
func (m *model) check() {
	r := m.ring
	var bytes int64
	last := map[uint32]uint64{}
	seq := r.base
	for i := r.first; i < r.next; i++ {
		e := r.at(i)
		if e.seq <= seq || e.seq > r.through {
			m.t.Fatalf("seq %d behind %d, read through %d", e.seq, seq, r.through)
		}
		seq = e.seq
		bytes += int64(len(r.frame(i))) + entrySize
		if e.prev != last[e.chain] || e.prev != 0 && r.at(e.prev).next != i || e.prev == 0 && r.list[e.chain].first != i {
			m.t.Fatalf("entry %d is not linked to the one before", i)
		}
		last[e.chain] = i
	}
	if bytes != r.bytes || bytes > r.maxBytes {
		m.t.Fatalf("%d bytes, counted %d, of %d", bytes, r.bytes, r.maxBytes)
	}
	readers := 0
	for subject, id := range r.chains {
		c := &r.list[id]
		if c.subject != subject || c.last != last[id] || (c.last == 0 && len(c.readers) == 0) {
			m.t.Fatalf("chain %q: %+v, last %d", subject, c, last[id])
		}
		readers += len(c.readers)
	}
	want := 0
	for _, reader := range m.readers {
		want += len(reader.Reader.sources)
	}
	if readers != want || len(r.chains)+len(r.free) != len(r.list) {
		m.t.Fatalf("%d readers, want %d; %d chains and %d free of %d", readers, want, len(r.chains), len(r.free), len(r.list))
	}
}

func TestRingTime(t *testing.T) {
	r := newRing("e", 0, 1<<20)
	now := time.Now()
	skew := time.Hour // between the server's clock and ours
	add := func(seq uint64, age time.Duration, expires time.Time) {
		r.append(&Message{Seq: seq, Subject: "s", Time: now.Add(skew - age), Expires: expires}, encodeSeq)
	}
	add(1, 30*time.Minute, time.Time{})
	add(2, 30*time.Minute, never)
	add(3, 10*time.Second, now.Add(skew-time.Second))
	add(4, 9*time.Second, now.Add(skew+time.Minute))
	add(5, 0, time.Time{})
	for _, c := range []struct {
		maxAge time.Duration
		want   string
	}{
		{0, "[1: 2: 4: 5:]"},
		{time.Minute, "[2: 4: 5:]"},
		{5 * time.Second, "[2: 5:]"},
	} {
		r.limits(State{First: 1, Now: now.Add(skew), MaxAge: c.maxAge})
		reader := &Reader{ring: r, woken: make(chan struct{}, 1)}
		reader.attach([]Source{{Subject: "s"}})
		_, _, err := reader.readTail(nil, 10)
		if missed := errors.Is(err, ErrMissed); missed != (c.maxAge > 0) {
			t.Errorf("MaxAge %s: %v", c.maxAge, err)
		}
		reader.pos, reader.told = 0, 5 // one who knows that
		entries, _, _ := reader.readTail(nil, 10)
		if got := fmt.Sprint(framesOf(entries)); got != c.want {
			t.Errorf("MaxAge %s: %s, want %s", c.maxAge, got, c.want)
		}
		reader.Close()
	}
}

// A segment of large messages does not keep what was evicted.
func TestRingMemory(t *testing.T) {
	const size = 100 << 10
	r := newRing("e", 0, 3*size)
	for seq := range uint64(200) {
		r.append(&Message{Seq: seq + 1, Subject: "s", Data: make([]byte, size)}, encodeSeq)
	}
	held := 0
	for _, s := range r.segments {
		for _, slab := range s.slabs {
			held += cap(slab)
		}
	}
	if held > 3*size+2*slabMost { // one is partly free, one not yet full
		t.Errorf("%d bytes are held, the limit is %d", held, r.maxBytes)
	}
}

func TestRingForgetsReaders(t *testing.T) {
	r := newRing("e", 0, 1<<20)
	var readers []*Reader
	for range 100 {
		reader := &Reader{ring: r, woken: make(chan struct{}, 1)}
		reader.attach([]Source{{Subject: "topic"}, {Subject: "topic"}})
		readers = append(readers, reader)
	}
	for _, reader := range readers[1:] {
		reader.Close()
		reader.Close() // no harm
	}
	all := r.list[r.chains["topic"]].readers
	if len(all) != 1 || slices.ContainsFunc(all[:cap(all)], func(r *Reader) bool { return r != nil && r != readers[0] }) {
		t.Errorf("%d readers, and perhaps others behind them", len(all))
	}
	readers[0].Close()
	if len(r.chains) != 0 {
		t.Error("a chain without a message or a reader")
	}
}

func TestMatches(t *testing.T) {
	r := newRing("e", 0, 1<<20)
	for seq, subject := range []string{"notify.user.a", "notify.user.b", "notify.topic.a", "notify.user.a"} {
		r.append(&Message{Seq: uint64(seq + 1), Subject: subject}, encodeSeq)
	}
	for filter, want := range map[string]int{
		"notify.user.a": 1, "notify.user.*": 2, "notify.*.a": 2, ">": 3, "notify.>": 3, "*.*.*": 3,
		"notify.user": 0, "notify.user.*.*": 0, "notify.user.a.>": 0, "*.*": 0, "notify.user.c": 0,
	} {
		if got := len(r.matching(filter)); got != want {
			t.Errorf("%s names %d subjects, want %d", filter, got, want)
		}
	}
	r.purge("notify.user.*", 3)
	reader := &Reader{ring: r, woken: make(chan struct{}, 1)}
	reader.attach([]Source{{Subject: "notify.user.a"}, {Subject: "notify.user.b"}, {Subject: "notify.topic.a"}})
	entries, _, _ := reader.readTail(nil, 10)
	if got := fmt.Sprint(framesOf(entries)); got != "[3: 4:]" {
		t.Errorf("left after the purge: %s", got)
	}
}
