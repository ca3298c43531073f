package verify

import (
	"fmt"
	"sort"
)

// readers is what all clients of a user, by a cursor, saw and acknowledged of one epoch after another.
type readers struct {
	in map[int]*reading
}

type reading struct {
	seen map[int32]moment // first
	acks []high           // in the order of time
	gaps []cover
}

// starts: a connection that starts at the stored position was not started behind anything that nobody of its cursor has read and
// then acknowledged.
func (j *judge) starts(c *Client, all map[cursorID]*readers) (violations []violation) {
	id := cursorID{c.cfg.User, c.cfg.Device}
	if all[id] == nil {
		all[id] = j.readers(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := j.life(c)
	if f == nil {
		return nil
	}
	must := map[int][]int32{}
	for k := range f.stays {
		must[k] = f.must(k)
	}
	for _, conn := range c.conns {
		if conn.admitted == 0 || conn.resumed() || conn.ready.After == 0 {
			continue
		}
		for _, i := range must[conn.epoch] {
			p := &j.published[i]
			if p.seq > conn.ready.After {
				break
			}
			if why := all[id].in[conn.epoch].unread(i, p, conn.admitted); why != "" {
				violations = append(violations, violation{"lost", fmt.Sprintf("client %s, %s: it starts behind %s, which %s",
					c.cfg.Name, conn, p, why)})
				break // the others are of the same cause
			}
		}
	}
	return violations
}

// unread says why a position behind the publication was not to be at a moment; empty: it was.
func (r *reading) unread(i int32, p *publication, at moment) string {
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
	return "nobody had seen"
}

// readers gathers the cursor's clients. A device's cursor begins at the user's own.
func (j *judge) readers(id cursorID) *readers {
	all := &readers{in: map[int]*reading{}}
	for _, c := range j.clients {
		if c.cfg.User == id.user && (c.cfg.Device == "" || c.cfg.Device == id.device) {
			c.mu.Lock()
			all.gather(c)
			c.mu.Unlock()
		}
	}
	for _, r := range all.in {
		sort.Slice(r.acks, func(a, b int) bool { return r.acks[a].at < r.acks[b].at })
	}
	return all
}

func (all *readers) gather(c *Client) {
	for _, conn := range c.conns {
		if conn.admitted == 0 {
			continue
		}
		r := all.in[conn.epoch]
		if r == nil {
			r = &reading{seen: map[int32]moment{}}
			all.in[conn.epoch] = r
		}
		for _, g := range conn.gaps {
			r.gaps = append(r.gaps, cover{after: g.After, next: g.Next, at: g.at})
		}
		for _, f := range conn.frames {
			switch f.kind {
			case kindMsg:
				if have, had := r.seen[f.what]; !had || f.at < have {
					r.seen[f.what] = f.at
				}
			case kindAckSent:
				r.acks = append(r.acks, high{f.at, f.seq})
			}
		}
	}
}
