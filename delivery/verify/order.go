package verify

// checkOrder goes through what the client kept after it dropped what it had by seq. It returns where each publication was first
// seen.
func (j *judge) checkOrder(c *Client, add addFunc) (seen map[int32]place) {
	type line struct {
		publisher string
		to        target
	}
	type mark struct {
		n   int
		seq uint64
	}
	seen = map[int32]place{}
	for k := range j.epochs {
		position := uint64(0)
		kept := map[int32]uint64{}
		newest := map[line]mark{}
		for _, conn := range c.conns {
			if conn.admitted == 0 || conn.epoch != k {
				continue
			}
			for index, f := range conn.frames {
				switch f.kind {
				case kindReady:
					if conn.auth.After != nil && f.seq < position { // an older copy of the stream: its seqs are used again
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
				if f.what < 0 || int(f.what) >= len(j.published) { // of nobody, or it came while the judge looked
					continue
				}
				p := &j.published[f.what]
				if _, had := seen[f.what]; !had || seen[f.what] > at(conn, index) {
					seen[f.what] = at(conn, index)
				}
				certain := p.acked != 0 && j.worlds[f.what] == k
				if certain && p.seq != f.seq {
					add("order", conn, "%s came at %s with seq %d", p, f.at, f.seq)
				}
				if repeat {
					continue
				}
				if before, had := kept[f.what]; had {
					add("twice", conn, "%s came at %s with seq %d, and had come with %d", p, f.at, f.seq, before)
				}
				kept[f.what] = f.seq
				if !certain {
					continue
				}
				of := line{p.publisher, p.to}
				if have := newest[of]; p.n < have.n {
					add("order", conn, "%s came at %s with seq %d, behind the publisher's number %d with seq %d", p, f.at, f.seq, have.n, have.seq)
				}
				newest[of] = mark{p.n, f.seq}
			}
		}
	}
	return seen
}
