package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A replay that needs direct access waits until it is put back, and has everything then.
func TestAReplayWhileDirectAccessIsOff(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.tail.MaxBytes, c.tail.Poll = 1, 300*time.Millisecond })
	want := []uint64{n.to(t, "alice", "1"), n.to(t, "alice", "2")}
	n.edit(t, func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	p, _ := n.enter(t, wire.Auth{Token: "alice"})
	if got, _ := p.replay(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("replayed %v, want %v", got, want)
	}
}

// Interest retention deletes what is unread. Clients hear that something may be gone.
func TestInterestRetentionIsToldToClients(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.tail.Poll = 50 * time.Millisecond })
	p, ready := n.live(t, "alice")
	n.edit(t, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy })
	p.closed(wire.CloseStreamReplaced)
	p, _ = n.enter(t, wire.Auth{Token: "alice", After: &ready.After, Epoch: ready.Epoch, User: "alice"})
	if gap := expect[wire.Gap](p); gap.Reason != wire.GapStreamReset {
		t.Errorf("gap: %+v", gap)
	}
}

// A gateway that cannot rely on the stream is not ready, and says why; who is connected stays.
func TestUnreadyWhereTheStreamIsUnfit(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.tail.Poll = 20 * time.Millisecond })
	n.live(t, "alice")
	n.edit(t, func(c *jetstream.StreamConfig) { c.Sealed = true })
	streamstest.Eventually(t, patience, func() error {
		reasons := fmt.Sprint(n.gateway.Unready())
		if !strings.Contains(reasons, "it is sealed, which NATS cannot undo (delete it with nats stream rm") {
			return fmt.Errorf("unready: %s", reasons)
		}
		return nil
	})
	n.shows(t, map[string]float64{`tidings_stream_unfit`: 1})
	n.connected(t, "alice", 1)
}
