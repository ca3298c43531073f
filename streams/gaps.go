package streams

import "maps"

// settledMax is how many answered gaps are remembered, at about 100 bytes each. Beyond it one is forgotten and reported again.
const settledMax = 100_000

// settledGap is a range of lost messages that a client of a user or device knows of.
type settledGap struct {
	epoch          string
	after, through uint64
}

// SettleGap notes that a client which started at the stored position, after, has answered a gap that reaches through a seq: later
// connections that start there need not report it. It is kept in memory: another gateway, or this one after a restart, reports it once
// more.
func (c *Cursors) SettleGap(id CursorID, epoch string, after, through uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tail.Epoch() != epoch {
		return
	}
	if _, known := c.settled[id]; !known && len(c.settled) >= settledMax {
		for other := range c.settled {
			delete(c.settled, other)
			break
		}
	}
	c.settled[id] = settledGap{epoch, after, through}
}

// SettledGap returns the end of the answered gap in which a position lies, or 0.
func (c *Cursors) SettledGap(id CursorID, epoch string, at uint64) (through uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gap := c.settled[id]
	if gap.epoch != epoch || at < gap.after {
		return 0
	}
	if at >= gap.through {
		delete(c.settled, id)
		return 0
	}
	return gap.through
}

func (c *Cursors) forgetSettled(epoch string) {
	maps.DeleteFunc(c.settled, func(_ CursorID, gap settledGap) bool { return gap.epoch != epoch })
}

// MayLack reports whether the stream may have dropped messages of the sources behind after and up to through, other than those that
// ended by their own TTL or that an operator deleted one by one. It is true where memory does not tell: unless each message of the range
// was read, and is still in memory.
func (t *Tail) MayLack(mark State, sources []Source, after, through uint64) bool {
	if after >= through {
		return false
	}
	r := t.current()
	if r == nil || r.epoch != mark.Epoch {
		return true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.search(through+1)-r.search(after+1) != through-after {
		return true
	}
	now := max(r.now().UnixNano(), mark.Now.UnixNano())
	const far = 10_000 // entries to look at
	looked := 0
	for _, s := range sources {
		id, ok := r.chains[s.Subject]
		if !ok {
			continue
		}
		for i := r.list[id].first; i != 0 && r.at(i).seq <= through; i = r.at(i).next {
			if looked++; looked > far || r.at(i).seq > max(after, s.After) && !r.at(i).ended(now) {
				return true
			}
		}
	}
	return false
}
