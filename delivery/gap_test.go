package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// firstIs waits until the stream begins at seq.
func (b *backend) firstIs(t *testing.T, seq uint64) {
	t.Helper()
	streamstest.Eventually(t, patience, func() error {
		stream, err := b.js.Stream(t.Context(), streams.DefaultName)
		if err != nil {
			return err
		}
		if first := stream.CachedInfo().State.FirstSeq; first != seq {
			return fmt.Errorf("the stream begins at %d, not %d", first, seq)
		}
		return nil
	})
}

// pin publishes what outlives the stream's MaxAge, and keeps its first sequence where it is.
func (b *backend) pin(t *testing.T) {
	t.Helper()
	immortal := nats.NewMsg("notify.user.zoe")
	immortal.Header.Set(jetstream.MsgTTLHeader, "never")
	if _, err := b.js.PublishMsg(t.Context(), immortal); err != nil {
		t.Fatal(err)
	}
}

func TestGapWhereTheStartHasExpired(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxAge = 2 * time.Second })
	p, _ := n.live(t, "alice")
	first := n.to(t, "alice", "1")
	p.send(wire.Ack{Seq: expect[wire.Msg](p).Seq})
	n.committed(t, cursorOf("alice"), first, 0)
	_ = p.ws.Close()
	second := n.to(t, "alice", "2")
	n.firstIs(t, second+1)
	third := n.to(t, "alice", "3")

	p, ready := n.enter(t, wire.Auth{Token: "alice"})
	gap := expect[wire.Gap](p)
	if want := (wire.Gap{After: first, Next: third, Reason: wire.GapExpired}); gap != want || ready.After != first {
		t.Errorf("got %+v behind %+v, want %+v", gap, ready, want)
	}
	if got, _ := p.replay(); !slices.Equal(got, []uint64{third}) {
		t.Errorf("got %v", got)
	}
	// One who comes for the first time has missed nothing that was promised.
	p, ready = n.enter(t, wire.Auth{Token: "bob"})
	if ready.After != second {
		t.Errorf("ready: %+v", ready)
	}
	expect[wire.Live](p)
}

// A message that outlives the stream's MaxAge keeps its first sequence where it is, and hides nothing.
func TestGapWhereAnImmortalMessagePinsTheStream(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxAge = 2 * time.Second })
	p, _ := n.live(t, "alice")
	first := n.to(t, "alice", "1")
	p.send(wire.Ack{Seq: expect[wire.Msg](p).Seq})
	n.committed(t, cursorOf("alice"), first, 0)
	_ = p.ws.Close()
	n.pin(t)
	second := n.to(t, "alice", "2")
	// Whoever comes at its last moment is told twice, and the next one not again.
	streamstest.Eventually(t, patience, func() error {
		stream, err := n.js.Stream(t.Context(), streams.DefaultName)
		if err != nil {
			return err
		}
		if _, err := stream.GetMsg(t.Context(), second); !errors.Is(err, jetstream.ErrMsgNotFound) {
			return fmt.Errorf("the stream still has %d (%v)", second, err)
		}
		return nil
	})
	p, ready := n.enter(t, wire.Auth{Token: "alice"})
	if gap := expect[wire.Gap](p); gap != (wire.Gap{After: first, Reason: wire.GapExpired}) {
		t.Errorf("%+v behind %+v", gap, ready)
	}
}

// The word of a gap can be lost with its connection, and nothing follows it that would be acknowledged.
func TestAGapIsToldUntilItWasHeard(t *testing.T) {
	t.Parallel()
	var log journal
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxBytes, c.log = 20_000, &log })
	first, second := n.to(t, "alice", "1"), n.to(t, "alice", "2")
	came := 0
	leave := func(c io.Closer) { // and may carry the position
		t.Helper()
		came++
		_ = c.Close()
		streamstest.Eventually(t, patience, func() error {
			if n := len(log.saying(`"message":"closed"`)); n != came {
				return fmt.Errorf("%d have gone, not %d", n, came)
			}
			return nil
		})
	}
	p, old := n.enter(t, wire.Auth{Token: "alice"})
	await[wire.Live](p)
	p.send(wire.Ack{Seq: first})
	n.committed(t, cursorOf("alice"), first, 1)
	leave(p.ws)
	last := second
	for range 30 {
		last = n.to(t, "zoe", strings.Repeat("x", 1000))
		n.reads(t, last)
	}
	oldest, _, err := n.oldest(t, "zoe")
	if err != nil || oldest <= second+1 {
		t.Fatalf("the stream begins at %d, %v", oldest, err)
	}
	streamstest.Eventually(t, patience, func() error { // memory forgets it at the next look
		p, _ := n.enter(t, wire.Auth{Token: "alice", After: &first, Epoch: old.Epoch, User: "alice"})
		got, _ := p.replay()
		leave(p.ws)
		if len(got) > 0 {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})

	want := wire.Gap{After: first, Next: oldest, Reason: wire.GapExpired}
	told := func() *peer {
		t.Helper()
		p, ready := n.enter(t, wire.Auth{Token: "alice"})
		if gap := expect[wire.Gap](p); gap != want || ready.After != first {
			t.Errorf("%+v behind %+v", gap, ready)
		}
		expect[wire.Live](p)
		return p
	}
	leave(told().ws)
	p = told()
	p.send(wire.Ack{Seq: first}) // it lies before, and may have crossed it
	leave(p.ws)
	l, _ := n.hear(t, "alice")
	hears[wire.Ready](l)
	if gap := hears[wire.Gap](l); gap != want {
		t.Errorf("by events: %+v", gap)
	}
	hears[wire.Live](l)
	leave(l.body)
	p = told()
	p.raw(`{"type":"anything"}`)
	leave(p.ws)
	n.committed(t, cursorOf("alice"), last, 0)
	n.live(t, "alice")
}

func TestGapWhereTheUsersSubjectRanOverItsLimit(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = 5 })
	p, _ := n.live(t, "alice")
	_ = p.ws.Close()
	n.to(t, "bob", "so that the stream's first message stays")
	var seqs []uint64
	for range 5 {
		seqs = append(seqs, n.to(t, "alice", "x"))
	}
	n.reads(t, seqs[4])
	p, _ = n.enter(t, wire.Auth{Token: "alice"})
	gap := expect[wire.Gap](p) // at the limit, one before could have gone
	if gap.Reason != wire.GapLimit || gap.Next != seqs[0] {
		t.Errorf("gap: %+v", gap)
	}
	_ = p.ws.Close()
	seqs = append(seqs, n.to(t, "alice", "x"))
	p, ready := n.enter(t, wire.Auth{Token: "alice"})
	gap = expect[wire.Gap](p)
	if want := (wire.Gap{After: ready.After, Next: seqs[1], Reason: wire.GapLimit}); gap != want {
		t.Errorf("got %+v, want %+v", gap, want)
	}
	if got, _ := p.replay(); !slices.Equal(got, seqs[1:]) { // the Tail still has the first, the stream has not
		t.Errorf("got %v, want %v", got, seqs[1:])
	}
	p.send(wire.Ack{Seq: seqs[5]})
	n.committed(t, cursorOf("alice"), seqs[5], 0)
	_ = p.ws.Close()
	n.to(t, "alice", "y")
	p, _ = n.enter(t, wire.Auth{Token: "alice"}) // again at its limit, but all of it was read save one
	expect[wire.Msg](p)
}

func TestAReplacedStreamEndsSessionsAndTellsTheNextOnes(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.tail.Poll = 100 * time.Millisecond })
	p, old := n.live(t, "alice")
	for range 3 {
		n.to(t, "alice", "old")
		p.send(wire.Ack{Seq: expect[wire.Msg](p).Seq})
	}
	if err := n.js.DeleteStream(t.Context(), streams.DefaultName); err != nil {
		t.Fatal(err)
	}
	p.closed(4510)
	seq := n.to(t, "alice", `"new"`) // the gateway has made the stream anew
	p, ready := n.enter(t, wire.Auth{Token: "alice", After: ptr(uint64(3)), Epoch: old.Epoch, User: "alice"})
	if ready.Epoch == old.Epoch || ready.After != 0 {
		t.Errorf("ready: %+v after %+v", ready, old)
	}
	if gap := expect[wire.Gap](p); gap.Reason != wire.GapStreamReset {
		t.Errorf("gap: %+v", gap)
	}
	if m := expect[wire.Msg](p); m.Seq != seq || string(m.Data) != `"new"` {
		t.Errorf("msg: %+v", m)
	}
}

// While the stream drops its oldest all the time, a client whose start lies before that gets one gap, which covers what is gone by the
// first message, and is not closed again and again.
func TestAGapGrowsUntilTheFirstMessage(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) {
		c.stream.MaxBytes, c.tail.MaxBytes, c.stream.MaxMsgsPerSubject = 2<<20, 50<<10, -1
	})
	p, old := n.live(t, "alice")
	_ = p.ws.Close()
	ctx, stop := context.WithCancel(t.Context())
	var publishers errgroup.Group
	data := fmt.Appendf(nil, "%q", strings.Repeat("x", 2000))
	for i := range 4 {
		publishers.Go(func() error {
			for ctx.Err() == nil {
				_, err := n.publish.User(ctx, []string{"alice", "bob"}[i%2], streams.Notification{Data: data})
				if err != nil && ctx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	published := func() error {
		stop()
		return publishers.Wait()
	}
	defer func() { _ = published() }()
	streamstest.Eventually(t, 3*patience, func() error {
		if oldest, _, err := n.oldest(t, "bob"); err != nil || oldest < 100 {
			return fmt.Errorf("bob's oldest is %d, %w", oldest, err)
		}
		return nil
	})
	const times = 20
	away := 0
	for range times {
		p, ready := n.enter(t, wire.Auth{Token: "alice", After: ptr(uint64(0)), Epoch: old.Epoch, User: "alice"})
		var gaps []wire.Gap
		for begun := false; !begun; {
			f, err := p.next()
			switch f := f.(type) {
			case wire.Gap:
				gaps = append(gaps, f)
				if f.Reason != wire.GapExpired || f.After != ready.After {
					t.Errorf("%+v behind %d", f, ready.After)
				}
			case wire.Msg:
				begun = true
				if len(gaps) != 1 || gaps[0].Next < f.Seq { // a topic is read after her own, and may lack more by then
					t.Errorf("gaps %+v, and then %d", gaps, f.Seq)
				}
			case nil:
				begun = true
				if !websocket.IsCloseError(err, int(wire.CloseUnavailable)) {
					t.Fatal(err)
				}
				away++
			}
		}
		_ = p.ws.Close()
	}
	if away > times/4 { // the Tail itself may have missed something, once
		t.Errorf("%d of %d were closed", away, times)
	}
	if err := published(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsPurgedIsNotDelivered(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.tail.Poll = 100 * time.Millisecond })
	p, _ := n.live(t, "alice")
	for range 5 {
		n.to(t, "alice", "x")
		expect[wire.Msg](p) // or the purge may come before the gateway has read it, which ends connections
	}
	_ = p.ws.Close()
	stream, err := n.js.Stream(t.Context(), streams.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(5)); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		p, _ := n.enter(t, wire.Auth{Token: "alice", Device: "other"})
		defer func() { _ = p.ws.Close() }()
		if got, _ := p.replay(); !slices.Equal(got, []uint64{5}) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	// Nothing is left, and yet the connection gets live.
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		p, _ := n.enter(t, wire.Auth{Token: "alice"})
		defer func() { _ = p.ws.Close() }()
		if got, live := p.replay(); got != nil || live != 5 {
			return fmt.Errorf("got %v, live at %d", got, live)
		}
		return nil
	})
}
