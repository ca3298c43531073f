package delivery_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// What the stream drops while the gateway is away from NATS, a connection that stayed would step over: it is ended, and the next
// is told.
func TestAHoleFromAnAbsenceIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stream streams.Config
		drop   func(b *backend, first uint64) (kept uint64, reason string)
	}{
		"over the limit of a subject": {streams.Config{MaxMsgsPerSubject: 3}, func(b *backend, first uint64) (uint64, string) {
			var last uint64
			for range 10 {
				last = b.to(t, "alice", "x")
			}
			return last - 2, wire.GapLimit
		}},
		"by age": {streams.Config{MaxAge: 2 * time.Second}, func(b *backend, first uint64) (uint64, string) {
			lost := b.to(t, "alice", "x")
			b.firstIs(t, lost+1)
			return b.to(t, "alice", "x"), wire.GapExpired
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := streamstest.Run(t)
			proxy := streamstest.RunProxy(t, server.URL())
			direct := newBackend(t, server.URL())
			n := newNode(t, proxy.URL(), func(cfg *nodeConfig) { cfg.stream = c.stream })
			direct.answer(t, tokenIsUser)
			p, ready := n.live(t, "alice")
			first := direct.to(t, "alice", "had")
			if m := expect[wire.Msg](p); m.Seq != first {
				t.Fatalf("msg: %+v", m)
			}
			direct.to(t, "bob", "so that the stream's first message stays")
			proxy.Cut()
			kept, reason := c.drop(direct, first)
			proxy.Restore()
			p.closed(4503)
			p, _ = n.enter(t, wire.Auth{Token: "alice", After: &first, Epoch: ready.Epoch, User: "alice"})
			if gap := expect[wire.Gap](p); gap.Reason != reason || gap.After != first || gap.Next != kept {
				t.Errorf("gap: %+v, want %s from %d to %d", gap, reason, first, kept)
			}
			if m := expect[wire.Msg](p); m.Seq != kept {
				t.Errorf("msg: %+v, want %d", m, kept)
			}
		})
	}
}

func TestAnAbsenceWithoutAHoleEndsNobody(t *testing.T) {
	server := streamstest.Run(t)
	proxy := streamstest.RunProxy(t, server.URL())
	direct := newBackend(t, server.URL())
	n := newNode(t, proxy.URL(), func(cfg *nodeConfig) { cfg.stream.MaxMsgsPerSubject = 5 })
	direct.answer(t, tokenIsUser)
	p, _ := n.live(t, "alice")
	proxy.Cut()
	var want []uint64
	for i := range 4 {
		want = append(want, direct.to(t, "alice", "x"))
		for range 3 { // others over their limit are not alice's concern
			direct.to(t, fmt.Sprintf("other-%d", i%2), "x")
		}
	}
	proxy.Restore()
	for _, seq := range want {
		if m := expect[wire.Msg](p); m.Seq != seq {
			t.Fatalf("got %d, want %d", m.Seq, seq)
		}
	}
}

func TestGapOnATopicAtItsLimit(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 3 })
	p, ready := n.live(t, "alice")
	_ = p.ws.Close()
	n.to(t, "bob", "so that the stream's first message stays")
	var seqs []uint64
	for range 10 {
		seqs = append(seqs, n.toTopic(t, "all", "x"))
		n.reads(t, seqs[len(seqs)-1])
	}
	p, _ = n.enter(t, wire.Auth{Token: "alice", After: &ready.After, Epoch: ready.Epoch, User: "alice"})
	if gap := expect[wire.Gap](p); gap.Reason != wire.GapLimit || gap.Next != seqs[7] {
		t.Errorf("gap: %+v, want to %d", gap, seqs[7])
	}
	if got, _ := p.replay(); !slices.Equal(got, seqs[7:]) {
		t.Errorf("got %v, want %v", got, seqs[7:])
	}
}

func TestGapForOneWhoResumesWithoutACursor(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxAge = 2 * time.Second })
	p, ready := n.live(t, "alice")
	first := n.to(t, "alice", "1")
	expect[wire.Msg](p)
	lost := n.to(t, "alice", "2")
	expect[wire.Msg](p)
	_ = p.ws.Close()
	n.firstIs(t, lost+1)
	n.to(t, "bob", "x")
	p, _ = n.enter(t, wire.Auth{Token: "alice", Device: "new", After: &first, Epoch: ready.Epoch, User: "alice"})
	if gap := expect[wire.Gap](p); gap.Reason != wire.GapExpired || gap.After != first {
		t.Errorf("gap: %+v", gap)
	}
}

// An own cursor goes with a deleted stream, but its user is no newcomer: topics are read from the new stream's beginning.
func TestTopicsOfANewStreamAreNotSkipped(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.tail.Poll = 100 * time.Millisecond })
	p, old := n.live(t, "alice")
	if err := n.js.DeleteStream(t.Context(), streams.DefaultName); err != nil {
		t.Fatal(err)
	}
	p.closed(4510)
	want := []uint64{n.toTopic(t, "all", "1"), n.to(t, "alice", "2")}
	p, _ = n.enter(t, wire.Auth{Token: "alice", After: ptr(uint64(0)), Epoch: old.Epoch, User: "alice"})
	expect[wire.Gap](p)
	if got, _ := p.replay(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
