package streams

import (
	"context"
	"errors"
)

var errNotProven = errors.New("cold read: the stream could not vouch that nothing more lies there")

// coldRead merges a reader's subjects, in stream order, from its position up to where the Tail was when it began. It ends early
// once the Tail has the rest. To read no further than the Tail's beginning would never catch up where that moves as fast.
type coldRead struct {
	r     *Reader
	upTo  uint64
	parts []coldPart // one for each source of the reader
}

type coldPart struct {
	subject string
	after   uint64    // read up to here
	msgs    []Message // read, and not yet given to the reader
	done    bool
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
	dst, err := r.cold.read(ctx, dst, most, counts)

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

// read appends up to most entries and moves the reader; with fewer, it has moved it to the end of the cold read, or of a sweep. It
// counts what it appends of each source.
func (c *coldRead) read(ctx context.Context, dst []Entry, most int, counts []int) ([]Entry, error) {
	if c.enough(most) {
		return c.merge(ctx, dst, most, counts)
	}
	desk, turn := c.r.tail.desk, c.turn(most)
	if err := desk.wait(ctx, turn); err != nil {
		return dst, err
	}
	if !turn.swept {
		defer desk.leave()
		return c.merge(ctx, dst, most, counts)
	}
	copy(counts, turn.counts)
	c.r.pos = max(c.r.pos, turn.at)
	c.r.cold = nil
	return append(dst, turn.entries...), turn.err
}

func (c *coldRead) buffered() bool {
	for i := range c.parts {
		if len(c.parts[i].msgs) > 0 {
			return true
		}
	}
	return false
}

// enough says that a batch can be made of what is here, whatever the order.
func (c *coldRead) enough(most int) bool {
	for i := range c.parts {
		if p := &c.parts[i]; !p.done && len(p.msgs) < most {
			return false
		}
	}
	return true
}

func (c *coldRead) merge(ctx context.Context, dst []Entry, most int, counts []int) ([]Entry, error) {
	for n := 0; n < most; n++ {
		best := -1
		for i := range c.parts {
			p := &c.parts[i]
			if len(p.msgs) == 0 && !p.done {
				if err := c.fetch(ctx, p); err != nil {
					return dst, err
				}
			}
			if len(p.msgs) > 0 && (best < 0 || p.msgs[0].Seq < c.parts[best].msgs[0].Seq) {
				best = i
			}
		}
		if best < 0 {
			c.r.pos = max(c.r.pos, c.upTo)
			c.r.cold = nil
			return dst, nil
		}
		p := &c.parts[best]
		m := &p.msgs[0]
		dst = append(dst, Entry{Seq: m.Seq, Time: m.Time, Frame: c.r.tail.cfg.Encode(nil, m)})
		counts[best]++
		c.r.pos = m.Seq
		p.msgs = p.msgs[1:]
	}
	return dst, nil
}

// fetch reads the next batch of one subject. It ends a part only on proof.
func (c *coldRead) fetch(ctx context.Context, p *coldPart) error {
	t := c.r.tail
	for !p.done && len(p.msgs) == 0 {
		msgs, more, hole, err := t.readProven(ctx, p.subject, p.after, c.upTo, coldBatch, c.r.ring.epoch)
		if err != nil && len(msgs) == 0 { // else what is here goes first, and then the stream is asked again
			return err
		}
		if hole > max(p.after, c.r.told) {
			return ErrMissed
		}
		for _, m := range msgs {
			if m.Seq > c.upTo {
				p.done = true // the Tail has it
				break
			}
			p.after = m.Seq
			if !m.marker {
				p.msgs = append(p.msgs, m)
			}
		}
		p.done = p.done || err == nil && !more
	}
	return nil
}

// readProven is readAfter with a look at the stream behind it: up to hole, messages may have been dropped before they were read, where
// that lies past after. That there is no more, up to a seq, is proven. A server that is stopping says it too, of a store that is
// closed: so the stream must still answer afterwards, over the same connection. A replica that lags says it of what it has not
// yet got: so it must be shown that one has all. Where the proof fails there is an error beside the messages, which are good.
func (t *Tail) readProven(ctx context.Context, subject string, after, upTo uint64, batch int, epoch string) (
	msgs []Message, more bool, hole uint64, err error,
) {
	reconnects := t.stream.nc.Stats().Reconnects
	if msgs, more, err = t.stream.readAfter(ctx, subject, after, batch); err != nil {
		return nil, false, 0, err
	}
	st, err := t.Mark(ctx)
	if err != nil {
		return nil, false, 0, err
	}
	if st.Epoch != epoch {
		return nil, false, 0, ErrReplaced
	}
	end, hole := after, st.Expired
	if n := len(msgs); n > 0 {
		end, hole = msgs[n-1].Seq, min(hole, msgs[0].Seq-1)
	}
	if more || end >= upTo {
		return msgs, more, hole, nil
	}
	if t.replicas.Load() > 1 {
		if err := t.replicaHas(ctx, epoch, subject, end, upTo); err != nil {
			return msgs, false, hole, err
		}
	}
	if t.stream.nc.Stats().Reconnects != reconnects {
		return msgs, false, hole, errNotProven
	}
	return msgs, false, hole, nil
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
