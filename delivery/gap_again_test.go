package delivery_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// gapFor connects as alice, who never acknowledges, and returns the gap that comes first; it answers that with a pong.
func (n *node) gapFor(t *testing.T, auth wire.Auth) (gap wire.Gap) {
	t.Helper()
	auth.Token = "alice"
	p, _ := n.enter(t, auth)
	for live := false; !live; {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case wire.Gap:
			gap = f
			p.send(wire.Pong{})
		case wire.Live:
			live = true
		}
	}
	p.send(wire.Pong{})
	_ = p.ws.Close()
	n.connected(t, "alice", 0)
	return gap
}

// What the gateway knows to be gone, and nobody to miss, is reported to nobody.
func TestNoGapOfWhatNobodyMisses(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]func(n *node){
		"of another user": func(n *node) {
			for range 6 {
				n.reads(t, n.to(t, "bob", "x"))
			}
		},
		"deleted by an operator": func(n *node) {
			n.reads(t, n.to(t, "alice", "x"))
			stream, err := n.js.Stream(t.Context(), streams.DefaultName)
			if err == nil {
				err = stream.DeleteMsg(t.Context(), 1)
			}
			if err != nil {
				t.Error(err)
			}
		},
		"ended by its TTL": func(n *node) {
			if _, err := n.publish.User(t.Context(), "alice", streams.Notification{TTL: time.Second}); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 5 })
			p, _ := n.live(t, "alice")
			_ = p.ws.Close()
			n.connected(t, "alice", 0)
			drop(n)
			n.to(t, "alice", "stays")
			n.firstIs(t, 2)
			streamstest.Eventually(t, patience, func() error { // it hears of a deletion soon
				if gap := n.gapFor(t, wire.Auth{}); gap.Reason != "" {
					return errors.New(gap.Reason)
				}
				return nil
			})
		})
	}
}

// What the user may miss is reported until a client has answered, and again where more has gone. To resume is to start elsewhere.
func TestAGapThatWasAnsweredIsNotReportedAgain(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 5 })
	p, ready := n.live(t, "alice")
	_ = p.ws.Close()
	want := limitDropsTheFirst(t, n)
	one := wire.Gap{Next: want[0], Reason: wire.GapExpired}
	for i, expect := range []wire.Gap{one, {}, {}} {
		if gap := n.gapFor(t, wire.Auth{}); gap != expect {
			t.Errorf("connection %d: %+v, want %+v", i, gap, expect)
		}
	}
	resumed := wire.Auth{After: ptr(uint64(0)), Epoch: ready.Epoch, User: "alice"}
	if gap := n.gapFor(t, resumed); gap != one {
		t.Errorf("one that resumes: %+v, want %+v", gap, one)
	}
	want = append(want[1:], n.to(t, "alice", "one more"))
	if gap := n.gapFor(t, wire.Auth{}); gap != (wire.Gap{Next: want[0], Reason: wire.GapLimit}) {
		t.Errorf("after more has gone: %+v, want it to %d", gap, want[0])
	}
	if gap := n.gapFor(t, wire.Auth{}); gap != (wire.Gap{}) {
		t.Errorf("%+v", gap)
	}
}

// A gateway that has not read what is gone cannot know whose it was: it reports the gap once, whatever another one knows.
func TestAGapOfBeforeTheGatewayIsReportedOnce(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 5 })
	p, _ := n.live(t, "alice")
	_ = p.ws.Close()
	n.connected(t, "alice", 0) // or her position may move past what is not hers
	for range 6 {
		n.reads(t, n.to(t, "bob", "x"))
	}
	n.to(t, "alice", "stays")
	n.firstIs(t, 2)
	other := newNode(t, n.url)
	for i, want := range []string{wire.GapExpired, "", ""} {
		if gap := other.gapFor(t, wire.Auth{}); gap.Reason != want {
			t.Errorf("connection %d: %+v, want %q", i, gap, want)
		}
	}
}

// A message that the stream has dropped may still come from memory. If it was not acknowledged, its loss is reported once memory has
// forgotten it as well.
func TestAnAnsweredGapSettlesNoMoreThanItReported(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxBytes, c.tail.Poll = 20_000, 300*time.Millisecond })
	p, _ := n.live(t, "alice")
	_ = p.ws.Close()
	n.to(t, "bob", "the stream begins here")
	lost := n.to(t, "alice", "m1")
	bob, _ := n.enter(t, wire.Auth{Token: "bob"})
	for range 4 {
		last := n.to(t, "bob", strings.Repeat("x", 5000))
		for await[wire.Msg](bob).Seq < last { // no faster than they are read
		}
	}
	from := map[bool]int{}
	for late := time.Now().Add(patience); from[false] == 0 && time.Now().Before(late); {
		p, _ := n.enter(t, wire.Auth{Token: "alice"})
		var got, gap bool
		for live := false; !live; {
			f, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case wire.Gap:
				gap = gap || f.Next > lost
				p.send(wire.Pong{})
			case wire.Msg:
				got = true
			case wire.Live:
				live = true
			}
		}
		from[got]++
		if !got && !gap {
			t.Errorf("%d is neither sent nor reported, after %d connections", lost, from[true])
		}
		_ = p.ws.Close()
	}
	t.Logf("sent by %d connections from memory, then reported", from[true])
}

// A pong may answer a ping that was written before a gap, and then says nothing of the gap.
func TestAPongThatCrossedAGapAnswersAPing(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.delivery.Ping = 50 * time.Millisecond })
	p, _ := n.live(t, "alice")
	n.to(t, "alice", "1")
	pings := 0
	for had := false; !had || pings < 3; {
		switch f, err := p.next(); f.(type) {
		case wire.Msg:
			had = true
		case wire.Ping:
			pings++
		default:
			t.Fatalf("got %+v, %v", f, err)
		}
	}
	stream, err := n.js.Stream(t.Context(), streams.DefaultName)
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for told := false; !told; {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if _, ping := f.(wire.Ping); ping {
			pings++
		}
		_, told = f.(wire.Gap)
	}
	for range pings {
		p.send(wire.Pong{})
	}
	p.send(wire.Ack{Seq: 1000})
	await[wire.Error](p) // the pongs were read before
	if have := n.gateway.Unconfirmed("alice"); have != 1 {
		t.Errorf("%d gaps are unconfirmed, want 1", have)
	}
	p.send(wire.Pong{})
	streamstest.Eventually(t, patience, func() error {
		if have := n.gateway.Unconfirmed("alice"); have != 0 {
			return fmt.Errorf("%d gaps are unconfirmed, want none", have)
		}
		return nil
	})
}
