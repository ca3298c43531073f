package verify

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// judge is the Log at one instant, arranged for questions.
type judge struct {
	log       *Log
	published []publication
	acks      []int32
	epochs    []epoch
	replaced  []moment
	clients   []*Client

	worlds  map[int32]int // of each acknowledged publication; see world
	to      map[target][]int32
	highest map[int][]high // by world, in the order of acknowledgement
}

// high is the largest seq that was acknowledged until a moment.
type high struct {
	at  moment
	seq uint64
}

// nobodyKnows is the world of a publication that was made while the stream was replaced.
const nobodyKnows = -1

func (l *Log) judge() *judge {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &judge{
		log: l, published: slices.Clone(l.published), acks: slices.Clone(l.acks), epochs: slices.Clone(l.epochs),
		replaced: slices.Clone(l.replaced), clients: slices.Clone(l.clients),
	}
}

// arrange prepares what Check needs, and Missing does not.
func (j *judge) arrange() {
	j.worlds, j.to, j.highest = map[int32]int{}, map[target][]int32{}, map[int][]high{}
	for _, i := range j.acks {
		p := &j.published[i]
		w := j.world(p)
		j.worlds[i] = w
		if w == nobodyKnows {
			continue
		}
		j.to[p.to] = append(j.to[p.to], i)
		h := high{p.acked, p.seq}
		if have := j.highest[w]; len(have) > 0 {
			h.seq = max(h.seq, have[len(have)-1].seq)
		}
		j.highest[w] = append(j.highest[w], h)
	}
}

// world is the index of the epoch in which the publication's seq counts: that in which it was attempted and acknowledged. No
// acknowledgement names it.
func (j *judge) world(p *publication) int {
	for k := len(j.epochs) - 1; k >= 0; k-- {
		from := j.epochs[k].from
		until := moment(math.MaxInt64)
		for _, at := range j.replaced {
			if at > from {
				until = min(until, at)
			}
		}
		if k == 0 && !slices.ContainsFunc(j.replaced, func(at moment) bool { return at < from }) {
			from = 0 // the first epoch is there before anybody is told of it
		}
		switch {
		case p.attempted < from:
			continue
		case p.acked < until:
			return k
		}
		return nobodyKnows
	}
	if len(j.epochs) == 0 && len(j.replaced) == 0 {
		return 0
	}
	return nobodyKnows
}

// began is when the epoch was first seen.
func (j *judge) began(k int) moment {
	if k < len(j.epochs) {
		return j.epochs[k].from
	}
	return math.MaxInt64
}

// acknowledgedBefore is the largest seq of the epoch that was acknowledged before. After a replacement that left the epoch as it was
// none is known.
func (j *judge) acknowledgedBefore(k int, at moment) uint64 {
	if slices.ContainsFunc(j.replaced, func(r moment) bool { return r > j.began(k) && r < at }) {
		return 0
	}
	all := j.highest[k]
	i := sort.Search(len(all), func(i int) bool { return all[i].at >= at })
	if i == 0 {
		return 0
	}
	return all[i-1].seq
}

// begun bounds where the topics of a client's cursor begin in an epoch.
func (j *judge) begun(c *Client, k int) cursorBegin {
	j.log.mu.Lock()
	defer j.log.mu.Unlock()
	if begin := j.log.cursorOf(c).in[k]; begin != nil {
		return *begin
	}
	return cursorBegin{}
}

// place is where something happened in a client's life: the connection and the frame in it.
type place int64

const never place = math.MaxInt64

func at(conn *connection, index int) place { return place(conn.number)<<32 | place(index) }

// stay is what a client's connections of one epoch began with and were told.
type stay struct {
	begin  cursorBegin
	covers []cover
}

// cover is a range of seqs that a client need not have, and since when: a gap, or what lay before the stored position when it
// came.
type cover struct {
	place       place
	after, next uint64 // both exclusive; next 0: everything that was acknowledged before
	at          moment
}

func (v cover) covers(p *publication) bool {
	return p.seq > v.after && (p.seq < v.next || v.next == 0 && p.acked < v.at)
}

// life is what a client must have, as far as its connections say. Client.mu is held while it is in use.
type life struct {
	j      *judge
	c      *Client
	first  int // epoch of the first admission
	last   int // of the newest
	began  moment
	stays  map[int]*stay
	resets []cover // gaps stream_reset: place and moment, and in next the index of the epoch
}

// life returns nil for a client that was never admitted.
func (j *judge) life(c *Client) *life {
	f := &life{j: j, c: c, first: -1, stays: map[int]*stay{}}
	for _, conn := range c.conns {
		if conn.admitted == 0 || conn.epoch >= len(j.epochs) { // which came while the judge looked
			continue
		}
		if f.first < 0 {
			f.first, f.began = conn.epoch, conn.admitted
		}
		f.last = max(f.last, conn.epoch)
		s := f.stays[conn.epoch]
		if s == nil {
			s = &stay{begin: j.begun(c, conn.epoch)}
			f.stays[conn.epoch] = s
		}
		if !conn.resumed() {
			s.covers = append(s.covers, cover{place: at(conn, 0), next: conn.ready.After + 1})
		}
		for _, g := range conn.gaps {
			s.covers = append(s.covers, cover{place: at(conn, g.index), after: g.After, next: g.Next, at: g.at})
			if g.Reason == "stream_reset" {
				f.resets = append(f.resets, cover{place: at(conn, g.index), at: g.at, next: uint64(conn.epoch)})
			}
		}
	}
	if f.first < 0 {
		return nil
	}
	return f
}

// concerns says whether the client must have what was acknowledged, or be told that it cannot.
func (f *life) concerns(p *publication, world int) bool {
	switch {
	case p.removed || !f.c.meant(p.to):
		return false
	case f.c.gone && (world != f.last || p.seq > f.c.last):
		return false
	case world == nobodyKnows:
		return f.j.epochs[f.first].from < p.attempted || len(f.j.replaced) == 0
	case world < f.first:
		return false
	}
	s := f.stays[world]
	if s == nil || !p.to.topic {
		return true
	}
	// A topic begins behind what the stream held when the first connection of its cursor was admitted.
	return s.begin.whole || s.begin.known && p.seq > s.begin.live || p.attempted > s.begin.ready
}

// excused is since when the client need not have what concerns it.
func (f *life) excused(p *publication, world int) place {
	since := never
	if s := f.stays[world]; s != nil {
		for _, v := range s.covers {
			if v.covers(p) {
				since = min(since, v.place)
			}
		}
	}
	for _, r := range f.resets {
		if world != nobodyKnows && int(r.next) > world || world == nobodyKnows && p.attempted < r.at {
			since = min(since, r.place)
		}
	}
	if f.c.cfg.Forget { // without a position it cannot know that the stream is another one
		for _, conn := range f.c.conns {
			newer := conn.epoch > world
			if world == nobodyKnows {
				newer = f.j.began(conn.epoch) > p.attempted
			}
			if conn.admitted != 0 && newer {
				since = min(since, at(conn, 0))
				break
			}
		}
	}
	return since
}

// must are the publications of an epoch that concern the client, in the order of their seqs.
func (f *life) must(k int) (all []int32) {
	targets := []target{{name: f.c.cfg.User}}
	for _, topic := range f.c.cfg.Topics {
		targets = append(targets, target{topic: true, name: topic})
	}
	for _, to := range targets {
		for _, i := range f.j.to[to] {
			if f.j.worlds[i] == k && f.concerns(&f.j.published[i], k) {
				all = append(all, i)
			}
		}
	}
	slices.SortFunc(all, func(a, b int32) int { return cmp.Compare(f.j.published[a].seq, f.j.published[b].seq) })
	return all
}
