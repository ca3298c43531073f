package streams

import (
	"context"
	"errors"
	"time"
)

var errNotProven = errors.New("cold read: the stream could not vouch that nothing more lies there")

// coldRead merges a reader's subjects, in stream order, from its position up to where the Tail was when it began. It ends early
// once the Tail has the rest. To read no further than the Tail's beginning would never catch up where that moves as fast.
type coldRead struct {
	r     *Reader
	upTo  uint64
	parts []coldPart // one for each source of the reader
	turn  *turn      // that it waits for, or is swept and not yet given to the reader; it outlives the reader's deadlines
}

type coldPart struct {
	subject string
	after   uint64    // read up to here
	msgs    []Message // read, and not yet given to the reader
	done    bool
}

// Turns of readers that read alone.
const (
	coldSlice    = 16 // requests, then others have their turn
	coldEach     = 2  // slices at the same time of one user, with all connections
	coldBatchMin = 8  // messages in one request, of readers with very many subjects: all that they read first is held

	// A read of one subject takes 0.1 to 2.5 ms, by how many messages of others it steps over; to scan all takes 6 µs for a message. If
	// more subjects than sweepCost have something to read, they are scanned where that lies within so many messages for each.
	scanMax  = 80
	scanSpan = 2000 // seqs, then others have their turn
)

// batch is what was read of a part.
type batch struct {
	subject string
	after   uint64

	msgs []Message
	more bool
	hole uint64
	err  error
}

func (r *Reader) newColdRead() *coldRead {
	r.ring.mu.RLock()
	defer r.ring.mu.RUnlock()
	c := &coldRead{r: r, upTo: r.ring.visible()}
	for _, s := range r.sources {
		after := max(r.pos, s.After)
		c.parts = append(c.parts, coldPart{subject: s.Subject, after: after, done: after >= c.upTo})
	}
	return c
}

// endCold forgets what was read and not yet given.
func (r *Reader) endCold() {
	if r.cold != nil && r.cold.turn != nil {
		r.tail.desk.withdraw(r.cold.turn)
	}
	r.cold = nil
}

// readCold reads from the stream: alone, or with others in one sweep.
func (r *Reader) readCold(ctx context.Context, dst []Entry, most int) ([]Entry, error) {
	if r.cold == nil {
		r.cold = r.newColdRead()
	}
	if !r.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.until)
		defer cancel()
	}
	had, before := len(dst), r.pos
	counts := make([]int, len(r.sources))
	dst, err := r.cold.read(ctx, dst, len(dst)+most, counts)

	g := r.ring
	g.mu.RLock()
	defer g.mu.RUnlock()
	if r.overrun(0) { // what was just read may lie behind a hole
		clear(dst[had:])
		r.pos = before
		return dst[:had], ErrMissed
	}
	for i, n := range counts {
		r.sources[i].read(n, g.maxEach)
	}
	return dst, err
}

// read appends entries until there are full and moves the reader; with fewer, and no error, it has moved it to the end of the cold
// read, or of a sweep. It counts what it appends of each source.
func (c *coldRead) read(ctx context.Context, dst []Entry, full int, counts []int) ([]Entry, error) {
	for {
		if c.turn == nil {
			dst = c.merge(dst, full, counts)
			if len(dst) == full || c.r.cold == nil {
				return dst, nil
			}
			c.turn = c.newTurn(full - len(dst))
			c.r.tail.desk.queue(c.turn)
		}
		select {
		case <-c.turn.given:
		default:
			select {
			case <-c.turn.given:
			case <-ctx.Done():
				return dst, ctx.Err()
			}
		}
		if c.r.active = c.turn.active; c.turn.swept {
			return c.share(dst, full, counts)
		}
		w := c.turn
		c.turn = nil
		if err := c.take(w); err != nil {
			return dst, err
		}
	}
}

// merge gives what is here, until a part has nothing left that may have more.
func (c *coldRead) merge(dst []Entry, full int, counts []int) []Entry {
	for len(dst) < full {
		best := -1
		for i := range c.parts {
			p := &c.parts[i]
			if len(p.msgs) == 0 && !p.done {
				return dst
			}
			if len(p.msgs) > 0 && (best < 0 || p.msgs[0].Seq < c.parts[best].msgs[0].Seq) {
				best = i
			}
		}
		if best < 0 {
			c.r.pos = max(c.r.pos, c.upTo)
			c.r.cold = nil
			return dst
		}
		p := &c.parts[best]
		m := &p.msgs[0]
		dst = append(dst, Entry{Seq: m.Seq, Time: m.Time, Frame: c.r.tail.cfg.Encode(nil, m)})
		counts[best]++
		c.r.pos, c.r.fresh = m.Seq, false
		p.msgs = p.msgs[1:]
	}
	return dst
}

// share gives what a sweep found. The reader may want fewer at a time than when it asked.
func (c *coldRead) share(dst []Entry, full int, counts []int) ([]Entry, error) {
	w := c.turn
	if w.fresh {
		c.r.mayMiss(0, w.told)
	}
	n := min(len(w.entries), full-len(dst))
	for _, e := range w.entries[:n] {
		dst = append(dst, e.Entry)
		counts[e.source]++
		c.r.pos, c.r.fresh = e.Seq, false
	}
	if w.entries = w.entries[n:]; len(w.entries) > 0 {
		return dst, nil
	}
	c.r.pos = max(c.r.pos, w.at)
	c.r.cold = nil
	return dst, w.err
}

// take puts what was read alone into the parts. It ends a part only on proof.
func (c *coldRead) take(w *turn) (err error) {
	for i, b := range w.batches {
		p := &c.parts[i]
		switch {
		case b == nil:
			continue
		case b.err != nil && len(b.msgs) == 0: // else what is here goes first, and then the stream is asked again
			err = b.err
			continue
		case !c.r.mayMiss(p.after, b.hole):
			return ErrMissed
		}
		for _, m := range b.msgs {
			if m.Seq > c.upTo {
				p.done = true // the Tail has it
				break
			}
			p.after = m.Seq
			p.msgs = append(p.msgs, m)
		}
		p.done = p.done || b.err == nil && !b.more
	}
	return err
}

// coldReads serves readers alone until ctx is done. What was asked for is waited for, whatever the reader's deadline: it will come
// in any case, and the reader takes it when it is back.
func (t *Tail) coldReads(ctx context.Context) {
	for {
		w := t.desk.take(ctx)
		if w == nil {
			return
		}
		if w.scans(t) {
			w.most = max(w.most, sweepBatch) // it keeps what its reader does not want at once
			t.sweep(ctx, t.current(), []*turn{w}, scanSpan)
			t.desk.served(w, true)
			continue
		}
		began, done := time.Now(), ColdRead{Readers: 1}
		asked, over := t.readSlice(ctx, w, &done)
		if over {
			close(w.given)
		}
		t.desk.served(w, over)
		if asked { // else the reader went before
			t.coldReadDone(done, began)
		}
	}
}

// scans reports whether a turn is served alone by a scan of all that lies behind its position.
func (w *turn) scans(t *Tail) bool {
	if w.only || w.active <= sweepCost {
		return false
	}
	end := t.current().readable()
	return end-min(end, w.from) <= uint64(scanMax*w.active)
}

// readSlice reads some of a turn's subjects, so that no reader has more than coldSlice requests made before others have their turn. The
// turn is over once all were read, or one failed.
func (t *Tail) readSlice(ctx context.Context, w *turn, done *ColdRead) (asked, over bool) {
	if w.withdrawn.Load() {
		return false, true
	}
	todo := w.todo()
	if len(todo) == 0 {
		return false, true
	}
	if w.looked == 0 && len(todo) < emptyMin {
		w.looked = len(w.subjects)
	}
	if w.looked < len(w.subjects) {
		t.skipEmpty(ctx, w)
		return true, len(w.todo()) == 0
	}
	if w.batch == 0 && w.active == 0 && len(w.subjects) >= emptyMin {
		w.active = len(todo)
		return false, false // it may be better to scan
	}
	if w.batch == 0 {
		w.batch = max(coldBatchMin, coldBatch*emptyMin/max(emptyMin, len(todo)))
	}
	todo = todo[:min(len(todo), coldSlice)]
	var reads []*batch
	for _, i := range todo {
		reads = append(reads, &batch{subject: w.subjects[i], after: w.after[i]})
	}
	for n, b := range t.readProven(ctx, reads, w.upTo, w.batch, w.epoch) {
		w.batches[todo[n]] = b
		done.Messages += len(b.msgs)
		done.Failed = done.Failed || b.err != nil
	}
	return true, done.Failed || len(w.todo()) == 0
}

// readProven reads the subjects of the batches, each up to so many messages behind its seq, and looks at the stream once behind all of
// them: up to hole, messages may have been dropped before they were read, where that lies past after. That there is no more, up to a seq,
// is proven. A server that is stopping says it too, of a store that is closed: so the stream must still answer afterwards, over the same
// connection. A replica that lags says it of what it has not yet got: so it must be shown that one has all. If the proof fails there is
// an error beside the messages, which are good. It returns what was read: the last may be the first that failed.
func (t *Tail) readProven(ctx context.Context, reads []*batch, upTo uint64, most int, epoch string) []*batch {
	reconnects := t.stream.nc.Stats().Reconnects
	read, found := 0, false
	for _, b := range reads {
		if b.msgs, b.more, b.err = t.stream.readAfter(ctx, b.subject, b.after, most); b.err != nil {
			break
		}
		read, found = read+1, found || len(b.msgs) > 0
	}
	if read == 0 {
		return reads[:1]
	}
	st, err := t.Mark(ctx)
	for late := time.Now().Add(linkTimeout); err != nil && found && t.Epoch() == epoch && time.Now().Before(late) && ctx.Err() == nil; {
		// They would only be read once more.
		_ = pause(ctx, lookWithin) // whose end the loop sees
		st, err = t.Mark(ctx)
	}
	if err == nil && st.Epoch != epoch {
		err = ErrReplaced
	}
	for _, b := range reads[:read] {
		if err != nil {
			b.msgs, b.err = nil, err
		} else {
			t.prove(ctx, b, st, upTo, reconnects)
		}
	}
	return reads[:min(read+1, len(reads))]
}

// prove sets the hole of a batch, and its error where it cannot be proven that there is no more.
func (t *Tail) prove(ctx context.Context, b *batch, st State, upTo, reconnects uint64) {
	end := b.after
	b.hole = st.Expired
	if n := len(b.msgs); n > 0 {
		end, b.hole = b.msgs[n-1].Seq, min(b.hole, b.msgs[0].Seq-1)
	}
	if b.more || end >= upTo {
		return
	}
	if max(st.Replicas, int(t.replicas.Load())) > 1 { // it may just be becoming more, or fewer
		b.err = t.replicaHas(ctx, st.Epoch, b.subject, end, upTo)
	}
	if b.err == nil && t.stream.nc.Stats().Reconnects != reconnects {
		b.err = errNotProven
	}
}

// replicaHas proves that the stream has no more of the subject behind a seq and up to another, which some replica has said: it may lag.
// One message is known that the stream has and nothing behind it, up to there: a replica that has it lacks nothing.
func (t *Tail) replicaHas(ctx context.Context, epoch, subject string, end, upTo uint64) error {
	r := t.current()
	if r.epoch != epoch {
		return ErrReplaced
	}
	newest, beside, ok := r.newestLeft()
	if ok && newest <= end {
		return nil
	}
	if !ok || subject == ">" {
		_, found, err := t.stream.leaderNextSure(ctx, subject, end)
		if err == nil && found {
			err = errNotProven
		}
		return err
	}
	has, more, err := t.stream.vouch(ctx, subject, end, beside)
	if err == nil && (more || has < upTo) {
		err = errNotProven
	}
	return err
}
