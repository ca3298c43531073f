package delivery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// connected waits until the user has so many connections.
func (n *node) connected(t *testing.T, user string, want int) {
	t.Helper()
	streamstest.Eventually(t, patience, func() error {
		if have := n.gateway.Connections(user); have != want {
			return fmt.Errorf("%s has %d connections, want %d", user, have, want)
		}
		return nil
	})
}

// A batch is read at once but written one by one: a connection that ends between has a position behind what was never written.
func TestNothingUnwrittenIsCarriedAway(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	a, _ := n.live(t, "alice")
	b, _ := n.live(t, "alice")
	var last uint64
	for range 60 { // more than the sockets hold: a does not read, and its writer stalls
		last = n.to(t, "alice", strings.Repeat("a", 200<<10))
		expect[wire.Msg](b)
	}
	b.send(wire.Ack{Seq: last})
	n.committed(t, cursorOf("alice"), last, 0)
	_ = b.ws.Close()
	n.connected(t, "alice", 1)
	precious := n.to(t, "alice", "nobody has acknowledged it")
	for range 1100 { // enough for a position to be carried along
		n.to(t, "bob", "x")
	}
	for range 20 { // the writer goes on to the next batch, to which all of these belong
		await[wire.Msg](a)
	}
	_ = a.ws.NetConn().Close()
	n.connected(t, "alice", 0)
	p, _ := n.enter(t, wire.Auth{Token: "alice"})
	if got, _ := p.replay(); !slices.Equal(got, []uint64{precious}) {
		t.Errorf("replayed %v, want %d", got, precious)
	}
}

func TestACaughtUpPositionIsCarriedWithTheStream(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.delivery.Ping = 100 * time.Millisecond })
	p, _ := n.live(t, "alice")
	var last uint64
	for range 1100 {
		last = n.to(t, "bob", "x")
	}
	streamstest.Eventually(t, patience, func() error {
		ping := expect[wire.Ping](p) // and no word of an acknowledgement: nobody made one
		p.send(wire.Pong{})
		if ping.Seq != last {
			return fmt.Errorf("ping at %d, want %d", ping.Seq, last)
		}
		return nil
	})
	streamstest.Eventually(t, patience, func() error {
		consumer, err := n.js.Consumer(t.Context(), streams.DefaultName, "user-alice")
		if err != nil {
			return err
		}
		if floor := consumer.CachedInfo().AckFloor.Stream; floor < last/2 {
			return fmt.Errorf("position %d of %d", floor, last)
		}
		return nil
	})
	for range 5 {
		expect[wire.Ping](p)
		p.send(wire.Pong{})
	}
}

func TestGapWhereAResumedPositionLiesBehindTheLimit(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 5 })
	p, ready := n.live(t, "alice")
	n.to(t, "bob", "so that the stream's first message stays")
	var seqs []uint64
	for range 20 {
		seqs = append(seqs, n.to(t, "alice", "x"))
		expect[wire.Msg](p)
	}
	p.send(wire.Ack{Seq: seqs[19]})
	n.committed(t, cursorOf("alice"), seqs[19], 0)
	other, _ := n.enter(t, wire.Auth{Token: "alice", After: &seqs[0], Epoch: ready.Epoch, User: "alice"})
	if gap, want := expect[wire.Gap](other), (wire.Gap{After: seqs[0], Next: seqs[15], Reason: wire.GapLimit}); gap != want {
		t.Errorf("got %+v, want %+v", gap, want)
	}
	if got, _ := other.replay(); !slices.Equal(got, seqs[15:]) {
		t.Errorf("got %v, want %v", got, seqs[15:])
	}
}

// A client that reads slowly is disconnected when the backend says so, not when it has read what was on its way.
func TestASlowClientIsDisconnectedAtOnce(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	for range 120 {
		n.to(t, "alice", strings.Repeat("a", 200<<10))
	}
	p, _ := n.enter(t, wire.Auth{Token: "alice"})
	expect[wire.Msg](p) // and then it does not read
	began := time.Now()
	if closed, _, err := delivery.Disconnect(t.Context(), n.nc, "alice", nil, ""); closed != 1 || err != nil {
		t.Fatal(closed, err)
	}
	n.connected(t, "alice", 0)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestRenewalsAreCalm(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	n.leases(t, 2*time.Second)
	p, _ := n.live(t, "alice")
	began := time.Now()
	for range 3 { // as our own client does: at once
		await[wire.Expiring](p)
		p.send(wire.Renew{Token: "alice"})
		await[wire.Renewed](p)
	}
	if took := time.Since(began); took < 2500*time.Millisecond {
		t.Errorf("three renewals of a lease of 2 s in %s", took)
	}
}
