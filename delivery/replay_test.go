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

func TestDeliversLiveAndReplaysWhatWasMissed(t *testing.T) {
	n := newTown(t)
	p, ready := n.live(t, "alice")
	if ready.User != "alice" || ready.After != 0 || ready.Unread != 0 || ready.Epoch == "" || ready.Conn == "" || ready.Ping != 25000 {
		t.Errorf("ready: %+v", ready)
	}
	first := n.to(t, "alice", `{"order":991}`)
	n.to(t, "bob", `"not yours"`)
	m := expect[wire.Msg](p)
	if m.Seq != first || string(m.Data) != `{"order":991}` || m.ID == "" || time.Since(m.Time) > time.Minute {
		t.Errorf("msg: %+v", m)
	}
	p.send(wire.Ack{Seq: m.Seq})
	n.committed(t, streams.CursorID{User: "alice"}, first, 0)
	_ = p.ws.Close()

	var missed []uint64
	for i := range 10 {
		missed = append(missed, n.to(t, "alice", fmt.Sprint(i)))
		n.to(t, "bob", "x")
	}
	n.committed(t, streams.CursorID{User: "alice"}, first, 10)
	p, ready = n.enter(t, wire.Auth{Token: "alice"})
	if ready.After != first || ready.Unread != 10 {
		t.Errorf("ready: %+v", ready)
	}
	got, live := p.replay()
	if !slices.Equal(got, missed) {
		t.Errorf("replayed %v, want %v", got, missed)
	}
	if last := missed[9] + 1; live < last {
		t.Errorf("live at %d, though %d was stored", live, last)
	}
}

func TestEveryConnectionOfAUserGetsEverything(t *testing.T) {
	server := streamstest.Run(t)
	a := newNode(t, server.URL())
	b := newNode(t, server.URL())
	a.answer(t, tokenIsUser)
	var peers []*peer
	for _, n := range []*node{a, a, b} {
		p, _ := n.live(t, "alice")
		peers = append(peers, p)
	}
	var want []uint64
	for i := range 50 {
		want = append(want, a.to(t, "alice", fmt.Sprint(i)))
	}
	for i, p := range peers {
		for _, seq := range want {
			if m := expect[wire.Msg](p); m.Seq != seq {
				t.Fatalf("connection %d: got %d, want %d", i, m.Seq, seq)
			}
		}
	}
	// What one acknowledges, the others are told, on the other gateway too.
	peers[0].send(wire.Ack{Seq: want[49]})
	for _, p := range peers[1:] {
		if acked := await[wire.Acked](p); acked.Seq != want[49] || acked.Unread != 0 {
			t.Errorf("acked: %+v", acked)
		}
	}
}

func TestResumesBehindAfter(t *testing.T) {
	n := newTown(t)
	p, ready := n.live(t, "alice")
	var seqs []uint64
	for range 5 {
		seqs = append(seqs, n.to(t, "alice", "x"))
	}
	for range seqs {
		expect[wire.Msg](p)
	}
	resume := func(after uint64, epoch, user string) ([]uint64, wire.Ready, []wire.Frame) {
		t.Helper()
		p, ready := n.enter(t, wire.Auth{Token: "alice", After: ptr(after), Epoch: epoch, User: user})
		var got []uint64
		var others []wire.Frame
		for {
			switch f, err := p.next(); f := f.(type) {
			case wire.Msg:
				got = append(got, f.Seq)
			case wire.Live:
				_ = p.ws.Close()
				return got, ready, others
			default:
				if err != nil {
					t.Fatal(err)
				}
				others = append(others, f)
			}
		}
	}
	if got, r, others := resume(seqs[2], ready.Epoch, "alice"); !slices.Equal(got, seqs[3:]) || r.After != seqs[2] || r.Unread != 5 || others != nil {
		t.Errorf("after %d: %v %+v %v", seqs[2], got, r, others)
	}
	if got, r, others := resume(seqs[2], ready.Epoch, "bob"); !slices.Equal(got, seqs) || r.After != 0 || others != nil {
		t.Errorf("after of another user: %v %+v %v", got, r, others)
	}
	for what, c := range map[string]struct {
		after uint64
		epoch string
	}{"another epoch": {seqs[2], "abc"}, "no epoch": {seqs[2], ""}, "the future": {seqs[4] + 100, ready.Epoch}} {
		got, r, others := resume(c.after, c.epoch, "alice")
		if !slices.Equal(got, seqs) || r.After != 0 || len(others) != 1 {
			t.Fatalf("after of %s: %v %+v %v", what, got, r, others)
		}
		if gap, ok := others[0].(wire.Gap); !ok || gap.Reason != wire.GapStreamReset {
			t.Errorf("after of %s: %+v", what, others[0])
		}
	}
	n.committed(t, streams.CursorID{User: "alice"}, 0, 5) // after does not move the stored position
}

func TestTopicsAreMergedInStreamOrder(t *testing.T) {
	n := newTown(t)
	n.toTopic(t, "all", `"before the user's time"`)
	p, _ := n.live(t, "alice")
	_ = p.ws.Close()
	var want []uint64
	for i := range 10 {
		if i%2 == 0 {
			want = append(want, n.to(t, "alice", "1"))
		} else {
			want = append(want, n.toTopic(t, "all", "2"))
		}
		n.toTopic(t, "others", "3")
	}
	p, _ = n.enter(t, wire.Auth{Token: "alice"})
	if got, _ := p.replay(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	n.toTopic(t, "all", "4")
	if m := expect[wire.Msg](p); m.Topic != "all" {
		t.Errorf("topic: %+v", m)
	}
}

func TestReplaysFromTheStreamWhatTheTailNoLongerHas(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.tail.MaxBytes = 20 << 10 })
	p, _ := n.live(t, "alice")
	_ = p.ws.Close()
	var want []uint64
	for i := range 500 {
		if i%3 == 0 {
			want = append(want, n.toTopic(t, "all", "1"))
		} else {
			want = append(want, n.to(t, "alice", "2"))
		}
		n.to(t, "bob", "3")
	}
	p, _ = n.enter(t, wire.Auth{Token: "alice"})
	got, _ := p.replay()
	if !slices.Equal(got, want) {
		t.Errorf("got %d messages, want %d", len(got), len(want))
	}
}

func TestDevicesHavePositionsOfTheirOwn(t *testing.T) {
	n := newTown(t)
	p, _ := n.live(t, "alice")
	first := n.to(t, "alice", "1")
	p.send(wire.Ack{Seq: expect[wire.Msg](p).Seq})
	n.committed(t, streams.CursorID{User: "alice"}, first, 0)

	phone, ready := n.enter(t, wire.Auth{Token: "alice", Device: "phone"})
	if ready.After != first { // it starts where the user is
		t.Errorf("ready: %+v", ready)
	}
	expect[wire.Live](phone)
	_ = phone.ws.Close()
	second := n.to(t, "alice", "2")
	p.send(wire.Ack{Seq: expect[wire.Msg](p).Seq})
	n.committed(t, streams.CursorID{User: "alice"}, second, 0)
	n.committed(t, streams.CursorID{User: "alice", Device: "phone"}, first, 1)
	phone, _ = n.enter(t, wire.Auth{Token: "alice", Device: "phone"})
	if got, _ := phone.replay(); !slices.Equal(got, []uint64{second}) {
		t.Errorf("the phone got %v", got)
	}
}
