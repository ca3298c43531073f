package verify

import (
	"fmt"
	"sort"
	"strings"
)

// checkLost returns a violation for each publication that concerns the client, was not received and is not excused.
func (f *history) checkLost(seen map[int32]place) (all []violation) {
	for _, i := range f.j.acks {
		p := &f.j.published[i]
		if _, had := seen[i]; had || !f.c.mayReceive(p.to) {
			continue
		}
		if k := f.j.epochIndex[i]; f.concerns(p, k) && f.excused(p, k) == never {
			all = append(all, violation{"lost", fmt.Sprintf("client %s did not receive %s; it had %s", f.c.cfg.Name, p, f.c.around(p.acked))})
		}
	}
	return all
}

// around describes the client's connections near a moment.
func (c *Client) around(m moment) string {
	const maxConns = 4
	last := sort.Search(len(c.conns), func(i int) bool { return c.conns[i].authSent > m })
	first := max(0, min(last-1, len(c.conns)-maxConns))
	var texts []string
	for _, conn := range c.conns[first:min(len(c.conns), first+maxConns)] {
		texts = append(texts, conn.String())
	}
	return fmt.Sprintf("%d connections: %s", len(c.conns), strings.Join(texts, ", "))
}

// checkLive checks that nothing up to the seq of each live and ping frame was outstanding.
func (f *history) checkLive(k int, seen map[int32]place, add addFunc) {
	required := f.required(k)
	have := make([]place, len(required)) // from where on the client has received, or is excused from, everything up to here
	worst := place(0)
	for n, i := range required {
		since, had := seen[i]
		if !had {
			since = never
		}
		worst = max(worst, min(since, f.excused(&f.j.published[i], k)))
		have[n] = worst
	}
	for _, conn := range f.c.conns {
		if conn.admitted == 0 || conn.epoch != k {
			continue
		}
		for index, fr := range conn.frames {
			if fr.kind != kindLive && (fr.kind != kindPing || fr.seq == 0) {
				continue
			}
			if minSeq := f.j.acknowledgedBefore(k, conn.authSent); fr.kind == kindLive && fr.seq < minSeq {
				add("live", conn, "live is %d, but %d was acknowledged before auth", fr.seq, minSeq)
			}
			n := sort.Search(len(required), func(n int) bool { return f.j.published[required[n]].seq > fr.seq })
			if n > 0 && have[n-1] > at(conn, index) {
				i := sort.Search(n, func(n int) bool { return have[n] > at(conn, index) })
				add("live", conn, "%s is %d at %s, while %s was outstanding", fr.kind, fr.seq, fr.at, &f.j.published[required[i]])
			}
		}
	}
}
