package delivery_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// forget deletes the durable consumer of a cursor, as an operator may.
func (b *backend) forget(t *testing.T, id streams.CursorID) {
	t.Helper()
	name, err := streams.ConsumerName(id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.js.DeleteConsumer(ctx, streams.DefaultName, name); err != nil {
		t.Fatal(err)
	}
}

// A durable that is deleted while its user reads costs nothing: it is made again where the user is.
func TestADurableDeletedUnderAConnectedUser(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	s := newSiege(t, server.URL())
	s.gateway(t, server.URL())
	by := map[string]*guest{"alice": s.client(t, verify.ClientConfig{User: "alice"})}
	s.live(t)
	s.publishing(t, 1, 5*time.Millisecond, []string{"alice", "bob"}, []string{"all"})
	for range streamstest.Either(3, 30) {
		s.goesOn(t, 20)
		streamstest.Eventually(t, recovery, func() error { // the last one may not have been made again
			_, err := s.js.Consumer(t.Context(), streams.DefaultName, "user-alice")
			return err
		})
		s.forget(t, cursorOf("alice"))
	}
	s.goesOn(t, 20)
	if end := s.calm(t); end.Connections != 1 {
		t.Errorf("the connection did not stay: %s", end)
	}
	s.acknowledged(t, by)
}

// A durable that is deleted in the midst of a replay does not end it, and is made again where it was acknowledged.
func TestADurableDeletedDuringAReplay(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.tail.MaxBytes = 100 << 10 })
	p, _ := n.live(t, "alice")
	_ = p.ws.Close()
	var want []uint64
	for range 200 { // more than the socket takes
		want = append(want, n.to(t, "alice", strings.Repeat("x", 10<<10)))
	}
	p = narrowPeer(t, n.narrow(t))
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "alice"})
	expect[wire.Ready](p)
	got := []uint64{expect[wire.Msg](p).Seq}
	p.send(wire.Ack{Seq: got[0]})
	n.committed(t, cursorOf("alice"), got[0], uint64(len(want)-1))
	n.forget(t, cursorOf("alice"))
	rest, _ := p.replay()
	if got = append(got, rest...); !slices.Equal(got, want) {
		t.Errorf("replayed %d messages, want %d", len(got), len(want))
	}
	p.send(wire.Ack{Seq: got[100]})
	n.committed(t, cursorOf("alice"), got[100], uint64(len(want)-101))
}

// One whose durable was deleted while they were away, and who still knows where they were, has missed nothing of their own.
func TestADurableDeletedWhileItsUserIsAway(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	s := newSiege(t, server.URL())
	n := s.gateway(t, server.URL())
	alice := s.client(t, verify.ClientConfig{User: "alice"})
	without := s.client(t, verify.ClientConfig{Name: "bob without memory", User: "bob", Forget: true})
	s.live(t)
	p := s.publisher(t, "p")
	post(t, p, "alice", "bob", "alice", "bob")
	s.goesOn(t, 0)
	streamstest.Eventually(t, recovery, s.log.Missing)
	s.acknowledged(t, map[string]*guest{"alice": alice, "bob": without})
	for _, g := range s.guests {
		g.leave()
	}
	n.connected(t, "alice", 0)
	n.connected(t, "bob", 0)
	s.forget(t, cursorOf("alice"))
	s.forget(t, cursorOf("bob"))
	post(t, p, "alice", "bob", "alice", "bob")
	for _, g := range s.guests {
		g.run(t)
	}
	s.live(t)
	post(t, p, "alice", "bob")
	end := s.calm(t)
	if end.Messages != 5+5+2 || end.Repeats != 2 { // bob is a newcomer now: his begin with the first that the stream holds
		t.Errorf("want five and five, and two of bob's again: %s", end)
	}
	s.acknowledged(t, map[string]*guest{"alice": alice, "bob": without})
}

// One who says where they were has missed nothing of their topics either where the durable was deleted meanwhile. Topics begin
// behind the stream's end for a newcomer, and this is none.
func TestTopicsOfOneWhoResumesWithoutADurable(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	p, ready := n.live(t, "alice")
	first := n.toTopic(t, "all", "1")
	if m := expect[wire.Msg](p); m.Seq != first {
		t.Fatalf("msg: %+v", m)
	}
	_ = p.ws.Close()
	n.connected(t, "alice", 0)
	n.forget(t, cursorOf("alice"))
	want := []uint64{n.toTopic(t, "all", "2"), n.to(t, "alice", "3")}
	p, _ = n.enter(t, wire.Auth{Token: "alice", After: &first, Epoch: ready.Epoch, User: "alice"})
	f, err := p.next()
	if err != nil {
		t.Fatal(err)
	}
	if gap, told := f.(wire.Gap); told && gap.After <= first {
		return // it may be gone: that is said
	}
	if m, ok := f.(wire.Msg); !ok || m.Seq != want[0] {
		t.Errorf("behind %d came %T %+v, want %v", first, f, f, want)
	}
}

// What an operator purges is not delivered to anybody who has not had it, and all that comes later is: to those who are
// connected, who are in the midst of a replay, and who are away.
func TestAPurgeIsADeletionAndNothingElse(t *testing.T) {
	t.Parallel()
	const backlog = 200
	for name, filter := range map[string]string{"of a user": "notify.user.alice", "of everything": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := streamstest.Run(t)
			s := newSiege(t, server.URL())
			n := s.gateway(t, server.URL(), func(c *nodeConfig) { c.tail.Poll = 100 * time.Millisecond })
			alice := s.client(t, verify.ClientConfig{User: "alice"})
			away := s.client(t, verify.ClientConfig{Name: "alice's phone", User: "alice", Device: "phone"})
			s.client(t, verify.ClientConfig{User: "bob"})
			s.live(t)
			away.leave()

			large, small := s.publisher(t, "large"), s.publisher(t, "small")
			large.Pad = 10 << 10
			var ids []string
			for i := range backlog { // more than the socket takes
				post(t, large, "alice")
				ids = append(ids, fmt.Sprint("large-", i+1))
			}
			streamstest.Eventually(t, recovery, func() error {
				if _, at := alice.Position(); at < backlog {
					return fmt.Errorf("alice is at %d of %d", at, backlog)
				}
				return nil
			})
			replaying := narrowPeer(t, n.narrow(t))
			expect[wire.Hello](replaying)
			replaying.send(wire.Auth{Token: "alice", Device: "tablet", After: ptr(uint64(0)), Epoch: s.epoch(t), User: "alice"})
			expect[wire.Ready](replaying)
			expect[wire.Msg](replaying) // and then it does not read
			if filter != "" {           // others are not concerned
				s.publishing(t, 1, 5*time.Millisecond, []string{"bob"}, []string{"all"})
			}
			stream, err := s.js.Stream(t.Context(), streams.DefaultName)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(filter)); err != nil {
				t.Fatal(err)
			}
			s.log.Removed(ids...)
			streamstest.Eventually(t, patience, func() error {
				p, _ := n.enter(t, wire.Auth{Token: "alice", Device: "watch", After: ptr(uint64(0)), Epoch: s.epoch(t), User: "alice"})
				defer func() { _ = p.ws.Close() }()
				if f := await[wire.Frame](p); f.Type() == "msg" && f.(wire.Msg).Topic == "" {
					return fmt.Errorf("%d is still delivered", f.(wire.Msg).Seq)
				}
				return nil
			})
			had := 1
			for f, err := replaying.next(); err == nil && f.Type() != "live"; f, err = replaying.next() {
				if f.Type() == "msg" && len(f.(wire.Msg).Data) > large.Pad {
					had++
				}
			}
			if had >= backlog {
				t.Error("all that was purged was delivered")
			}
			away.run(t)
			s.live(t)
			post(t, small, "alice", "bob", "alice")
			s.calm(t)
		})
	}
}

// Those who are connected at a purge are told that what they had not read may be gone; nobody else is.
func TestAPurgeIsToldToThoseWhoMayMissSomething(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	alice, _ := n.live(t, "alice")
	bob, _ := n.live(t, "bob")
	first := n.to(t, "alice", "1")
	if m := expect[wire.Msg](alice); m.Seq != first {
		t.Fatalf("msg: %+v", m)
	}
	stream, err := n.js.Stream(t.Context(), streams.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("notify.user.alice")); err != nil {
		t.Fatal(err)
	}
	if gap := expect[wire.Gap](alice); gap.Reason != wire.GapPurged || gap.After < first || gap.Next != 0 {
		t.Errorf("gap: %+v, want %s behind %d", gap, wire.GapPurged, first)
	}
	want := n.to(t, "alice", "2")
	if m := expect[wire.Msg](alice); m.Seq != want {
		t.Errorf("got %d, want %d", m.Seq, want)
	}
	want = n.to(t, "bob", "3")
	if m := expect[wire.Msg](bob); m.Seq != want { // and no gap before it
		t.Errorf("got %d, want %d", m.Seq, want)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*peer{alice, bob} {
		if gap := expect[wire.Gap](p); gap.Reason != wire.GapPurged {
			t.Errorf("gap: %+v", gap)
		}
	}
}

// narrowPeer connects to a narrow front.
func narrowPeer(t *testing.T, url string) *peer {
	t.Helper()
	ws, response, err := (&websocket.Dialer{NetDialContext: narrowDial}).DialContext(t.Context(), url+wire.Path, nil)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, response)
	}
	t.Cleanup(func() { _ = ws.Close() })
	return &peer{t: t, ws: ws}
}

// epoch is the stream's.
func (b *backend) epoch(t *testing.T) string {
	t.Helper()
	_, st, err := b.cursors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.Epoch
}
