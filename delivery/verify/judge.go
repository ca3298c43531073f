package verify

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// judge is a copy of the Log at one moment, with indices for checking it.
type judge struct {
	log       *Log
	published []publication
	acks      []int32
	epochs    []epoch
	replaced  []moment
	clients   []*Client

	epochIndex map[int32]int // the result of epochOf for each acknowledged publication
	to         map[target][]int32
	highest    map[int][]ackedSeq // by epoch, in the order of acknowledgement; the largest seq so far
}

// ackedSeq is a seq that was acknowledged, and when.
type ackedSeq struct {
	at  moment
	seq uint64
}

// unknownEpoch is the epoch of a publication that was made while the stream was being replaced.
const unknownEpoch = -1

func (l *Log) judge() *judge {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &judge{
		log: l, published: slices.Clone(l.published), acks: slices.Clone(l.acks), epochs: slices.Clone(l.epochs),
		replaced: slices.Clone(l.replaced), clients: slices.Clone(l.clients),
	}
}

// index builds the indices that Check needs and Missing does not.
func (j *judge) index() {
	j.epochIndex, j.to, j.highest = map[int32]int{}, map[target][]int32{}, map[int][]ackedSeq{}
	for _, i := range j.acks {
		p := &j.published[i]
		k := j.epochOf(p)
		j.epochIndex[i] = k
		if k == unknownEpoch {
			continue
		}
		j.to[p.to] = append(j.to[p.to], i)
		h := ackedSeq{p.acked, p.seq}
		if have := j.highest[k]; len(have) > 0 {
			h.seq = max(h.seq, have[len(have)-1].seq)
		}
		j.highest[k] = append(j.highest[k], h)
	}
}

// epochOf returns the index of the epoch to which the publication's seq belongs: the epoch in which it was both
// attempted and acknowledged. It is derived from these times, because an acknowledgement does not name the epoch.
func (j *judge) epochOf(p *publication) int {
	for k := len(j.epochs) - 1; k >= 0; k-- {
		from := j.epochs[k].from
		until := moment(math.MaxInt64)
		for _, at := range j.replaced {
			if at > from {
				until = min(until, at)
			}
		}
		if k == 0 && !slices.ContainsFunc(j.replaced, func(at moment) bool { return at < from }) {
			from = 0 // the first epoch exists before a client sees it
		}
		switch {
		case p.attempted < from:
			continue
		case p.acked < until:
			return k
		}
		return unknownEpoch
	}
	if len(j.epochs) == 0 && len(j.replaced) == 0 {
		return 0
	}
	return unknownEpoch
}

// firstSeen returns when a client first saw the epoch.
func (j *judge) firstSeen(k int) moment {
	if k < len(j.epochs) {
		return j.epochs[k].from
	}
	return math.MaxInt64
}

// acknowledgedBefore returns the largest seq of the epoch that was acknowledged before the given moment. It returns 0
// if the stream was replaced since the epoch was first seen, without a new epoch.
func (j *judge) acknowledgedBefore(k int, at moment) uint64 {
	if slices.ContainsFunc(j.replaced, func(r moment) bool { return r > j.firstSeen(k) && r < at }) {
		return 0
	}
	all := j.highest[k]
	i := sort.Search(len(all), func(i int) bool { return all[i].at >= at })
	if i == 0 {
		return 0
	}
	return all[i-1].seq
}

// topicStart returns where the topics of a client's stored position start in an epoch.
func (j *judge) topicStart(c *Client, k int) topicStart {
	j.log.mu.Lock()
	defer j.log.mu.Unlock()
	if start := j.log.positionOf(c).start[k]; start != nil {
		return *start
	}
	return topicStart{}
}

// place is a point in a client's history: a connection and a frame in it.
type place int64

const never place = math.MaxInt64

func at(conn *connection, index int) place { return place(conn.number)<<32 | place(index) }

// epochHistory holds facts about all connections of a client in one epoch.
type epochHistory struct {
	start   topicStart
	excused []seqRange
}

// seqRange is a range of seqs that a client need not receive, and the place from which on that is true. It is either a
// gap, or everything up to the stored position at which a connection started.
type seqRange struct {
	place       place
	after, next uint64 // both exclusive; next 0: everything that was acknowledged before at
	at          moment
}

func (v seqRange) covers(p *publication) bool {
	return p.seq > v.after && (p.seq < v.next || v.next == 0 && p.acked < v.at)
}

// history derives from a client's connections what it must receive. Client.mu must be held while it is in use.
type history struct {
	j        *judge
	c        *Client
	first    int // epoch of the first connection that received ready
	last     int // the newest epoch
	perEpoch map[int]*epochHistory
	resets   []seqRange // gaps stream_reset; here next is the index of the epoch
}

// history returns nil for a client that never received ready.
func (j *judge) history(c *Client) *history {
	f := &history{j: j, c: c, first: -1, perEpoch: map[int]*epochHistory{}}
	for _, conn := range c.conns {
		if conn.admitted == 0 || conn.epoch >= len(j.epochs) { // an epoch that is newer than this copy of the Log
			continue
		}
		if f.first < 0 {
			f.first = conn.epoch
		}
		f.last = max(f.last, conn.epoch)
		s := f.perEpoch[conn.epoch]
		if s == nil {
			s = &epochHistory{start: j.topicStart(c, conn.epoch)}
			f.perEpoch[conn.epoch] = s
		}
		if !conn.resumed() {
			s.excused = append(s.excused, seqRange{place: at(conn, 0), next: conn.ready.After + 1})
		}
		for _, g := range conn.gaps {
			s.excused = append(s.excused, seqRange{place: at(conn, g.index), after: g.After, next: g.Next, at: g.at})
			if g.Reason == "stream_reset" {
				f.resets = append(f.resets, seqRange{place: at(conn, g.index), at: g.at, next: uint64(conn.epoch)})
			}
		}
	}
	if f.first < 0 {
		return nil
	}
	return f
}

// concerns reports whether the client must receive the acknowledged publication, or a gap in its place.
func (f *history) concerns(p *publication, epoch int) bool {
	switch {
	case p.removed || !f.c.mayReceive(p.to):
		return false
	case f.c.left && (epoch != f.last || p.seq > f.c.last):
		return false
	case epoch == unknownEpoch:
		return f.j.epochs[f.first].from < p.attempted || len(f.j.replaced) == 0
	case epoch < f.first:
		return false
	}
	s := f.perEpoch[epoch]
	if s == nil || !p.to.topic {
		return true
	}
	// A new position does not include topic messages that the stream already held at its first connection.
	return s.start.whole || s.start.known && p.seq > s.start.live || p.attempted > s.start.ready
}

// excused returns the place from which on the client need not receive the publication, or never.
func (f *history) excused(p *publication, epoch int) place {
	since := never
	if s := f.perEpoch[epoch]; s != nil {
		for _, v := range s.excused {
			if v.covers(p) {
				since = min(since, v.place)
			}
		}
	}
	for _, r := range f.resets {
		if epoch != unknownEpoch && int(r.next) > epoch || epoch == unknownEpoch && p.attempted < r.at {
			since = min(since, r.place)
		}
	}
	if f.c.cfg.Forget { // without a position, the client cannot learn that the stream was replaced
		for _, conn := range f.c.conns {
			newer := conn.epoch > epoch
			if epoch == unknownEpoch {
				newer = f.j.firstSeen(conn.epoch) > p.attempted
			}
			if conn.admitted != 0 && newer {
				since = min(since, at(conn, 0))
				break
			}
		}
	}
	return since
}

// required returns the publications of an epoch that concern the client, in the order of their seqs.
func (f *history) required(k int) (all []int32) {
	targets := []target{{name: f.c.cfg.User}}
	for _, topic := range f.c.cfg.Topics {
		targets = append(targets, target{topic: true, name: topic})
	}
	for _, to := range targets {
		for _, i := range f.j.to[to] {
			if f.j.epochIndex[i] == k && f.concerns(&f.j.published[i], k) {
				all = append(all, i)
			}
		}
	}
	slices.SortFunc(all, func(a, b int32) int { return cmp.Compare(f.j.published[a].seq, f.j.published[b].seq) })
	return all
}
