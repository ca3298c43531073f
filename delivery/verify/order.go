package verify

// checkOrder checks the messages that the client kept, which are those with a seq past its position. It returns where
// each publication was first seen.
func (j *judge) checkOrder(c *Client, add addFunc) (seen map[int32]place) {
	type sequence struct { // of publications whose order must be kept
		publisher string
		to        target
	}
	type number struct {
		n   int
		seq uint64
	}
	seen = map[int32]place{}
	for k := range j.epochs {
		position := uint64(0)
		kept := map[int32]uint64{}
		newest := map[sequence]number{}
		for _, conn := range c.conns {
			if conn.admitted == 0 || conn.epoch != k {
				continue
			}
			for index, f := range conn.frames {
				switch f.kind {
				case kindReady:
					if conn.auth.After != nil && f.seq < position { // an older copy of the stream, in which seqs are used again
						position = f.seq
						clear(kept)
						clear(newest)
					}
					continue
				case kindLive, kindPing:
					position = max(position, f.seq)
					continue
				case kindMsg:
				default:
					continue
				}
				repeat := f.seq <= position
				position = max(position, f.seq)
				if f.pub < 0 || int(f.pub) >= len(j.published) { // not published, or newer than this copy of the Log
					continue
				}
				p := &j.published[f.pub]
				if _, had := seen[f.pub]; !had || seen[f.pub] > at(conn, index) {
					seen[f.pub] = at(conn, index)
				}
				certain := p.acked != 0 && j.epochIndex[f.pub] == k
				if certain && p.seq != f.seq {
					add("order", conn, "%s came at %s with seq %d", p, f.at, f.seq)
				}
				if repeat {
					continue
				}
				if before, had := kept[f.pub]; had {
					add("duplicate", conn, "%s came at %s with seq %d, and earlier with %d", p, f.at, f.seq, before)
				}
				kept[f.pub] = f.seq
				if !certain {
					continue
				}
				of := sequence{p.publisher, p.to}
				if have := newest[of]; p.n < have.n {
					add("order", conn, "%s came at %s with seq %d, after the publisher's number %d with seq %d", p, f.at, f.seq, have.n, have.seq)
				}
				newest[of] = number{p.n, f.seq}
			}
		}
	}
	return seen
}
