package verify

import (
	"fmt"
	"sort"
)

// readHistory is what all clients of one stored position have received and acknowledged, by epoch.
type readHistory struct {
	perEpoch map[int]*epochReads
}

type epochReads struct {
	seen map[int32]moment // when each publication was first received
	acks []ackedSeq       // in the order of time
	gaps []seqRange
}

// checkStarts checks the connections that started at the stored position. That position must not be past a publication,
// unless a client with the same stored position had received and then acknowledged it.
func (j *judge) checkStarts(c *Client, all map[positionID]*readHistory) (violations []violation) {
	id := positionID{c.cfg.User, c.cfg.Device}
	if all[id] == nil {
		all[id] = j.readHistory(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := j.history(c)
	if f == nil {
		return nil
	}
	required := map[int][]int32{}
	for k := range f.perEpoch {
		required[k] = f.required(k)
	}
	for _, conn := range c.conns {
		if conn.admitted == 0 || conn.resumed() || conn.ready.After == 0 {
			continue
		}
		for _, i := range required[conn.epoch] {
			p := &j.published[i]
			if p.seq > conn.ready.After {
				break
			}
			if why := all[id].perEpoch[conn.epoch].unread(i, p, conn.admitted); why != "" {
				violations = append(violations, violation{"lost", fmt.Sprintf("client %s, %s: it starts after %s, which %s",
					c.cfg.Name, conn, p, why)})
				break // further ones have the same cause
			}
		}
	}
	return violations
}

// unread returns why a stored position past the publication was wrong at the given moment, or "" if it was right.
func (r *epochReads) unread(i int32, p *publication, at moment) string {
	if r != nil {
		for _, g := range r.gaps {
			if g.covers(p) && g.at <= at {
				return ""
			}
		}
		if seen, had := r.seen[i]; had {
			first := sort.Search(len(r.acks), func(n int) bool { return r.acks[n].at >= seen })
			for _, ack := range r.acks[first:] { // the next few
				if ack.at > at {
					break
				}
				if ack.seq >= p.seq {
					return ""
				}
			}
			return fmt.Sprintf("was seen at %s and not acknowledged by then", seen)
		}
	}
	return "no client had received"
}

// readHistory collects the reads of all clients that use the position. For a device, it includes the user's clients
// without a device, because the position of a new device starts at the user's own.
func (j *judge) readHistory(id positionID) *readHistory {
	all := &readHistory{perEpoch: map[int]*epochReads{}}
	for _, c := range j.clients {
		if c.cfg.User == id.user && (c.cfg.Device == "" || c.cfg.Device == id.device) {
			c.mu.Lock()
			all.gather(c)
			c.mu.Unlock()
		}
	}
	for _, r := range all.perEpoch {
		sort.Slice(r.acks, func(a, b int) bool { return r.acks[a].at < r.acks[b].at })
	}
	return all
}

func (all *readHistory) gather(c *Client) {
	for _, conn := range c.conns {
		if conn.admitted == 0 {
			continue
		}
		r := all.perEpoch[conn.epoch]
		if r == nil {
			r = &epochReads{seen: map[int32]moment{}}
			all.perEpoch[conn.epoch] = r
		}
		for _, g := range conn.gaps {
			r.gaps = append(r.gaps, seqRange{after: g.After, next: g.Next, at: g.at})
		}
		for _, f := range conn.frames {
			switch f.kind {
			case kindMsg:
				if have, had := r.seen[f.pub]; !had || f.at < have {
					r.seen[f.pub] = f.at
				}
			case kindAckSent:
				r.acks = append(r.acks, ackedSeq{f.at, f.seq})
			}
		}
	}
}
