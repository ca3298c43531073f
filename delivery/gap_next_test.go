package delivery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/wire"
)

// limitDropsTheFirst has the limit of a subject drop the stream's first message and, behind a message for bob, two more.
func limitDropsTheFirst(t *testing.T, n *node) (kept []uint64) {
	t.Helper()
	n.connected(t, "alice", 0)
	n.to(t, "alice", "m1")
	n.reads(t, n.to(t, "bob", "the stream begins here"))
	for range 7 {
		kept = append(kept, n.to(t, "alice", "x"))
		n.reads(t, kept[len(kept)-1])
	}
	n.firstIs(t, 2)
	return kept[2:]
}

func TestAnExpiredStartHidesNoLimit(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 5 })
	p, _ := n.live(t, "alice")
	_ = p.ws.Close()
	want := limitDropsTheFirst(t, n)
	p, _ = n.enter(t, wire.Auth{Token: "alice"})
	if gap := expect[wire.Gap](p); gap != (wire.Gap{Next: want[0], Reason: wire.GapExpired}) {
		t.Errorf("%+v, the first message is %d", gap, want[0])
	}
	if got, _ := p.replay(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Whatever is missing, there is one gap, and its next is the first message that follows.
func TestTheNextOfAGapIsTheFirstMessage(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		expired, limit, reset := i&1 > 0, i&2 > 0, i&4 > 0
		t.Run(fmt.Sprintf("expired %t, limit %t, reset %t", expired, limit, reset), func(t *testing.T) {
			t.Parallel()
			n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject, c.stream.MaxBytes = 5, 20_000 })
			p, _ := n.live(t, "alice")
			_ = p.ws.Close()
			n.connected(t, "alice", 0)
			n.to(t, "bob", "the stream begins here")
			n.reads(t, n.to(t, "alice", "m1"))
			if expired { // by --max-bytes
				for range 4 {
					n.reads(t, n.to(t, "bob", strings.Repeat("x", 5000)))
				}
			}
			for range map[bool]int{false: 2, true: 7}[limit] {
				n.reads(t, n.to(t, "alice", "x"))
			}
			auth, reason := wire.Auth{Token: "alice"}, ""
			if limit {
				reason = wire.GapLimit
			}
			if expired {
				reason = wire.GapExpired
			}
			if reset {
				auth.User, auth.After, auth.Epoch = "alice", ptr(uint64(1)), "another"
				reason = wire.GapStreamReset
			}
			p, _ = n.enter(t, auth)
			var gap wire.Gap
			if reason != "" {
				gap = expect[wire.Gap](p)
			}
			got, _ := p.replay()
			if gap.Reason != reason || reason != "" && (len(got) == 0 || gap.Next != got[0]) {
				t.Errorf("%+v, want %s, and then %v", gap, reason, got)
			}
		})
	}
}

// Where a topic lacks more than what comes first of the user's own, nothing that may be gone lies behind next.
func TestTheNextOfAGapCoversAllSubjects(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 3 })
	p, ready := n.live(t, "alice")
	_ = p.ws.Close()
	n.connected(t, "alice", 0)
	n.to(t, "bob", "the stream begins here")
	n.toTopic(t, "all", "lost")
	own := n.to(t, "alice", "x")
	n.reads(t, n.toTopic(t, "all", "lost"))
	topic := []uint64{n.toTopic(t, "all", "1"), n.toTopic(t, "all", "2"), n.toTopic(t, "all", "3")}
	p, _ = n.enter(t, wire.Auth{Token: "alice", After: &ready.After, Epoch: ready.Epoch, User: "alice"})
	if gap := expect[wire.Gap](p); gap.Next != topic[0] || gap.Reason != wire.GapLimit {
		t.Errorf("%+v, want to %d", gap, topic[0])
	}
	if got, _ := p.replay(); !slices.Equal(got, append([]uint64{own}, topic...)) {
		t.Errorf("got %v", got)
	}
}
