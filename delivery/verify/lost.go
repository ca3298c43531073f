package verify

import (
	"fmt"
	"sort"
	"strings"
)

// checkLost finds what concerns the client, was never seen, and is not excused.
func (f *life) checkLost(seen map[int32]place) (all []violation) {
	for _, i := range f.j.acks {
		p := &f.j.published[i]
		if _, had := seen[i]; had || !f.c.meant(p.to) {
			continue
		}
		if w := f.j.worlds[i]; f.concerns(p, w) && f.excused(p, w) == never {
			all = append(all, violation{"lost", fmt.Sprintf("client %s lacks %s; it had %s", f.c.cfg.Name, p, f.c.around(p.acked))})
		}
	}
	return all
}

// around tells the client's connections about a moment.
func (c *Client) around(m moment) string {
	const most = 4
	last := sort.Search(len(c.conns), func(i int) bool { return c.conns[i].authSent > m })
	first := max(0, min(last-1, len(c.conns)-most))
	var told []string
	for _, conn := range c.conns[first:min(len(c.conns), first+most)] {
		told = append(told, conn.String())
	}
	return fmt.Sprintf("%d connections: %s", len(c.conns), strings.Join(told, ", "))
}

// checkLive looks at each live and ping that says how far nothing is outstanding.
func (f *life) checkLive(k int, seen map[int32]place, add addFunc) {
	must := f.must(k)
	have := make([]place, len(must)) // since when the client has had, or was excused of, everything up to here
	worst := place(0)
	for n, i := range must {
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
			if least := f.j.acknowledgedBefore(k, conn.authSent); fr.kind == kindLive && fr.seq < least {
				add("live", conn, "live is %d, and %d was acknowledged before auth", fr.seq, least)
			}
			n := sort.Search(len(must), func(n int) bool { return f.j.published[must[n]].seq > fr.seq })
			if n > 0 && have[n-1] > at(conn, index) {
				i := sort.Search(n, func(n int) bool { return have[n] > at(conn, index) })
				add("live", conn, "%s is %d at %s, while %s was outstanding", fr.kind, fr.seq, fr.at, &f.j.published[must[i]])
			}
		}
	}
}
