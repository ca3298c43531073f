package verify

import (
	"fmt"
	"strings"

	"github.com/tidings-io/tidings/delivery/wire"
)

// connection is the record of one connection of a client.
type connection struct {
	number   int // among the client's connections, from 1
	url      string
	authSent moment
	auth     wire.Auth // without the token
	ready    wire.Ready
	admitted moment // when ready was received; 0: never
	epoch    int    // index in Log.epochs, once admitted
	frames   []frame
	gaps     []gap
	goaway   *wire.Goaway

	ended  moment // 0: still open
	code   wire.CloseCode
	reason string
	ours   bool // the client closed it
}

// frame is a frame that was received, or an ack that was sent.
type frame struct {
	at   moment
	seq  uint64
	pub  int32 // for a msg: index in Log.published; -1: not published
	kind kind
}

type kind uint8

const (
	kindOther kind = iota
	kindHello
	kindReady
	kindGap
	kindMsg
	kindLive
	kindAcked
	kindPing
	kindGoaway
	kindAckSent
)

func (k kind) String() string {
	return [...]string{"another frame", "hello", "ready", "gap", "msg", "live", "acked", "ping", "goaway", "ack sent"}[k]
}

// gap is a gap frame, with its index among the connection's frames.
type gap struct {
	wire.Gap
	at    moment
	index int
}

func (c *connection) add(k kind, at moment, seq uint64, pub int32) {
	c.frames = append(c.frames, frame{at: at, seq: seq, pub: pub, kind: k})
}

// resumed reports whether the connection started at the position that the client sent, not at the stored position.
func (c *connection) resumed() bool {
	return c.auth.After != nil && *c.auth.After == c.ready.After && c.auth.Epoch == c.ready.Epoch
}

func (c *connection) count(s *Stats) {
	if c.admitted != 0 {
		s.Connections++
	}
	for _, f := range c.frames {
		switch f.kind {
		case kindMsg:
			s.Messages++
		case kindAcked:
			s.Acked++
		case kindLive:
			s.Live++
		}
	}
	for _, g := range c.gaps {
		s.Gaps[g.Reason]++
	}
	if c.goaway != nil {
		s.Goaways = append(s.Goaways, *c.goaway)
	}
	if c.ended != 0 && !c.ours {
		s.Closes[c.code]++
	}
}

// String describes the connection in one line, as proof of a violation.
func (c *connection) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connection %d (auth at %s", c.number, c.authSent)
	if c.auth.After != nil {
		fmt.Fprintf(&b, " after %d of %s", *c.auth.After, c.auth.Epoch)
	}
	if c.admitted != 0 {
		fmt.Fprintf(&b, ", ready at %s after %d of %s", c.admitted, c.ready.After, c.ready.Epoch)
	}
	for _, g := range c.gaps {
		fmt.Fprintf(&b, ", gap %s %d to %d", g.Reason, g.After, g.Next)
	}
	msgs, first, last := 0, uint64(0), uint64(0)
	for _, f := range c.frames {
		switch f.kind {
		case kindMsg:
			if msgs++; msgs == 1 {
				first = f.seq
			}
			last = f.seq
		case kindLive:
			fmt.Fprintf(&b, ", live %d at %s", f.seq, f.at)
		}
	}
	if msgs > 0 {
		fmt.Fprintf(&b, ", %d msgs from %d to %d", msgs, first, last)
	}
	if c.goaway != nil {
		fmt.Fprintf(&b, ", goaway %d", int(c.goaway.Code))
	}
	switch {
	case c.ended == 0:
		b.WriteString(", open")
	case c.ours:
		fmt.Fprintf(&b, ", closed by the client at %s", c.ended)
	default:
		fmt.Fprintf(&b, ", closed with %d %s at %s", int(c.code), c.reason, c.ended)
	}
	return b.String() + ")"
}
