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
	parts []coldPart
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
	c := &coldRead{r: r, upTo: r.ring.through}
	for _, s := range r.sources {
		after := max(r.pos, s.After)
		c.parts = append(c.parts, coldPart{subject: s.Subject, after: after, done: after >= c.upTo})
	}
	return c
}

// read appends up to most entries and moves the reader; with fewer, it has moved it to the end of the cold read.
func (c *coldRead) read(ctx context.Context, dst []Entry, most int) ([]Entry, error) {
	for n := 0; n < most; n++ {
		var best *coldPart
		for i := range c.parts {
			p := &c.parts[i]
			if len(p.msgs) == 0 && !p.done {
				if err := c.fetch(ctx, p); err != nil {
					return dst, err
				}
			}
			if len(p.msgs) > 0 && (best == nil || p.msgs[0].Seq < best.msgs[0].Seq) {
				best = p
			}
		}
		if best == nil {
			c.r.pos = max(c.r.pos, c.upTo)
			c.r.cold = nil
			return dst, nil
		}
		m := &best.msgs[0]
		dst = append(dst, Entry{Seq: m.Seq, Time: m.Time, Frame: c.r.tail.cfg.Encode(nil, m)})
		c.r.pos = m.Seq
		best.msgs = best.msgs[1:]
	}
	return dst, nil
}

// fetch reads the next batch of one subject. It ends a part only on proof.
func (c *coldRead) fetch(ctx context.Context, p *coldPart) error {
	t := c.r.tail
	select {
	case t.coldSlots <- struct{}{}:
		defer func() { <-t.coldSlots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for !p.done && len(p.msgs) == 0 {
		before := t.stream.nc.Stats().Reconnects
		msgs, more, err := t.stream.readAfter(ctx, p.subject, p.after, coldBatch)
		if err != nil {
			return err
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
		if p.done || more {
			continue
		}
		err = t.proveEnd(ctx, p.subject, p.after, c.upTo, c.r.ring.epoch, before)
		p.done = err == nil
		if err != nil && len(p.msgs) == 0 { // else what is here goes first, and then the stream is asked again
			return err
		}
	}
	return nil
}

// proveEnd makes sure that an answer "no more" meant what it says. A server that is stopping says it too, of a store that is
// closed: so the stream must still answer afterwards, over the same connection. A replica that lags says it of what it has
// not yet got: so the leader is asked as well.
func (t *Tail) proveEnd(ctx context.Context, subject string, after, upTo uint64, epoch string, reconnects uint64) error {
	if t.replicas.Load() > 1 {
		next, found, err := t.stream.leaderNext(ctx, subject, after)
		if err != nil {
			return err
		}
		if found && next.Seq <= upTo {
			return errNotProven
		}
	}
	st, err := t.Mark(ctx)
	if err != nil {
		return err
	}
	if st.Epoch != epoch {
		return ErrReplaced
	}
	if t.stream.nc.Stats().Reconnects != reconnects {
		return errNotProven
	}
	return nil
}
