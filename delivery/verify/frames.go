package verify

import (
	"slices"

	"github.com/tidings-io/tidings/delivery/wire"
)

// checkProtocol looks at which frames came when.
func (c *connection) checkProtocol(client *Client, add addFunc) {
	ready, lives, goaway := -1, 0, -1
	largest := uint64(0)
	for i, f := range c.frames {
		if f.kind == kindAckSent {
			continue
		}
		switch {
		case (i == 0) != (f.kind == kindHello):
			add("protocol", c, "%s at %s is frame %d: hello must come first, and once", f.kind, f.at, i+1)
		case goaway >= 0:
			add("protocol", c, "%s at %s came after goaway at %s", f.kind, f.at, c.frames[goaway].at)
		case ready < 0 && f.kind != kindHello && f.kind != kindReady && f.kind != kindGoaway:
			add("protocol", c, "%s at %s came before ready", f.kind, f.at)
		}
		switch f.kind {
		case kindReady:
			if ready >= 0 {
				add("protocol", c, "a second ready at %s", f.at)
			}
			ready, largest = i, f.seq
		case kindMsg:
			if ready >= 0 && f.seq <= largest {
				add("order", c, "seq %d at %s came behind %d", f.seq, f.at, largest)
			}
			largest = max(largest, f.seq)
		case kindLive:
			if lives++; lives > 1 {
				add("live", c, "a second live, %d, at %s", f.seq, f.at)
			}
			largest = c.checkReach(f, largest, add)
		case kindPing:
			if f.seq > 0 {
				largest = c.checkReach(f, largest, add)
			}
		case kindGoaway:
			goaway = i
		}
	}
	c.checkGaps(ready, add)
	switch {
	case c.admitted == 0:
	case c.ready.User != client.cfg.User:
		add("foreign", c, "ready is for user %s, the token is of %s", c.ready.User, client.cfg.User)
	case c.auth.After != nil && !c.resumed() && (len(c.gaps) == 0 || c.gaps[0].Reason != wire.GapStreamReset) && c.longEnough():
		add("protocol", c, "it does not start where the client was, and no gap stream_reset says so")
	}
	if c.goaway != nil && c.ended != 0 && !c.ours && c.code != c.goaway.Code && c.code != 1006 {
		add("protocol", c, "closed with %d after goaway %d", int(c.code), int(c.goaway.Code))
	}
}

// checkReach: live and ping never fall behind what was sent, since everything up to them was.
func (c *connection) checkReach(f frame, largest uint64, add addFunc) uint64 {
	if f.seq < largest {
		add("live", c, "%s %d at %s lies before %d, which was sent", f.kind, f.seq, f.at, largest)
	}
	return max(largest, f.seq)
}

// checkGaps: of a purge at any time; of the start once, behind ready and before the first message or live.
func (c *connection) checkGaps(ready int, add addFunc) {
	started := false
	for i := range c.gaps {
		g := &c.gaps[i]
		switch {
		case g.Reason == wire.GapPurged:
		case ready < 0 || started || c.given(ready, g.index):
			add("protocol", c, "gap %s at %s came too late, or twice", g.Reason, g.at)
		case g.After != c.ready.After:
			add("protocol", c, "gap %s at %s begins at %d, and not where the connection does", g.Reason, g.at, g.After)
		default:
			started = true
		}
		if g.Next != 0 && g.Next <= g.After {
			add("protocol", c, "gap %s at %s from %d to %d", g.Reason, g.at, g.After, g.Next)
		}
	}
}

// given says whether a frame between two tells how far the client is.
func (c *connection) given(from, to int) bool {
	return slices.ContainsFunc(c.frames[from+1:to], func(f frame) bool { return f.kind == kindMsg || f.kind == kindLive })
}

// longEnough says whether more than ready was seen, so that a gap would have been.
func (c *connection) longEnough() bool {
	ready := slices.IndexFunc(c.frames, func(f frame) bool { return f.kind == kindReady })
	return ready >= 0 && c.given(ready, len(c.frames))
}
