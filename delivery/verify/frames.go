package verify

import (
	"slices"

	"github.com/tidings-io/tidings/delivery/wire"
)

// checkProtocol checks the kinds and the order of the connection's frames.
func (c *connection) checkProtocol(client *Client, add addFunc) {
	ready, lives, goaway := -1, 0, -1
	largest := uint64(0)
	for i, f := range c.frames {
		if f.kind == kindAckSent {
			continue
		}
		switch {
		case (i == 0) != (f.kind == kindHello):
			add("protocol", c, "%s at %s is frame %d: hello must be the first frame and occur once", f.kind, f.at, i+1)
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
				add("order", c, "seq %d at %s came after %d", f.seq, f.at, largest)
			}
			largest = max(largest, f.seq)
		case kindLive:
			if lives++; lives > 1 {
				add("live", c, "a second live, %d, at %s", f.seq, f.at)
			}
			largest = c.checkAdvance(f, largest, add)
		case kindPing:
			if f.seq > 0 {
				largest = c.checkAdvance(f, largest, add)
			}
		case kindGoaway:
			goaway = i
		}
	}
	c.checkGaps(ready, add)
	switch {
	case c.admitted == 0:
	case c.ready.User != client.cfg.User:
		add("foreign", c, "ready is for user %s, but the token is for %s", c.ready.User, client.cfg.User)
	case c.auth.After != nil && !c.resumed() && (len(c.gaps) == 0 || c.gaps[0].Reason != wire.GapStreamReset) && c.longEnough():
		add("protocol", c, "it does not start at the client's position, and there is no gap stream_reset")
	}
	if c.goaway != nil && c.ended != 0 && !c.ours && c.code != c.goaway.Code && c.code != 1006 {
		add("protocol", c, "closed with %d after goaway %d", int(c.code), int(c.goaway.Code))
	}
}

// checkAdvance checks that a live or ping frame does not report a seq below one that was already sent. It returns the
// largest seq so far.
func (c *connection) checkAdvance(f frame, largest uint64, add addFunc) uint64 {
	if f.seq < largest {
		add("live", c, "%s %d at %s is less than %d, which was sent before", f.kind, f.seq, f.at, largest)
	}
	return max(largest, f.seq)
}

// checkGaps checks where gaps occur: at most one at the start, after ready and before the first message or live, and
// those of a purge anywhere.
func (c *connection) checkGaps(ready int, add addFunc) {
	started := false
	for i := range c.gaps {
		g := &c.gaps[i]
		switch {
		case g.Reason == wire.GapPurged:
		case ready < 0 || started || c.hasDelivery(ready, g.index):
			add("protocol", c, "gap %s at %s came too late or twice", g.Reason, g.at)
		case g.After != c.ready.After:
			add("protocol", c, "gap %s at %s begins at %d, not where the connection starts", g.Reason, g.at, g.After)
		default:
			started = true
		}
		if g.Next != 0 && g.Next <= g.After {
			add("protocol", c, "gap %s at %s is empty: from %d to %d", g.Reason, g.at, g.After, g.Next)
		}
	}
}

// hasDelivery reports whether there is a msg or live frame between two frames.
func (c *connection) hasDelivery(from, to int) bool {
	return slices.ContainsFunc(c.frames[from+1:to], func(f frame) bool { return f.kind == kindMsg || f.kind == kindLive })
}

// longEnough reports whether frames after ready were received, so that a gap would have been among them.
func (c *connection) longEnough() bool {
	ready := slices.IndexFunc(c.frames, func(f frame) bool { return f.kind == kindReady })
	return ready >= 0 && c.hasDelivery(ready, len(c.frames))
}
