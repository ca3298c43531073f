package verify_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func (w *town) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestClientsThatComeAndGoLackNothing(t *testing.T) {
	w := newTown(t)
	p := w.publisher(t, "p")
	p.Pad = 300
	publish := func() {
		to(t, p, "alice", "bob", "alice", "carol")
		if err := p.Topic(t.Context(), "all"); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	alice, stop := w.start(t, verify.ClientConfig{User: "alice"})
	tab, _ := w.start(t, verify.ClientConfig{User: "alice", Name: "alice's tab", Forget: true, Ack: verify.AckSometimes})
	phone, _ := w.start(t, verify.ClientConfig{User: "alice", Name: "alice's phone", Device: "phone", Ack: verify.AckNever})
	bob, _ := w.start(t, verify.ClientConfig{User: "bob", Forget: true})
	carol, leave := w.start(t, verify.ClientConfig{User: "carol", Ack: verify.AckSometimes})
	live(t, alice, tab, phone, bob, carol)
	publish()
	alice.Drop()
	tab.Drop()
	publish()
	bob.Pause()
	phone.Drop()
	publish()
	stop() // and away for a while
	leave()
	carol.Leave()
	publish()
	bob.Resume()
	run(t, alice)
	live(t, alice)
	publish()
	w.passes(t)
	if s := w.log.Stats(); s.Attempted != 30 || s.Connections < 8 || s.Messages < 50 || len(s.Gaps) > 0 {
		t.Errorf("%s", s)
	}
	if epoch, seq := alice.Position(); epoch == "" || seq < 30 {
		t.Errorf("alice is at %d of %q", seq, epoch)
	}
}

// Clients of one cursor tell each other what was acknowledged.
func TestWhatOthersAcknowledgedIsSeen(t *testing.T) {
	w := newTown(t)
	one, _ := w.start(t, verify.ClientConfig{User: "alice", Name: "one"})
	other, _ := w.start(t, verify.ClientConfig{User: "alice", Name: "other", Ack: verify.AckNever})
	live(t, one, other)
	to(t, w.publisher(t, "p"), "alice", "alice")
	streamstest.Eventually(t, patience, func() error {
		itself, _ := one.Acknowledged()
		silent, told := other.Acknowledged()
		if itself != 2 || silent != 0 || told != 2 {
			return fmt.Errorf("one acknowledged %d, the other %d and was told of %d", itself, silent, told)
		}
		return nil
	})
	w.passes(t)
	if s := w.log.Stats(); s.Acked == 0 {
		t.Errorf("%s", s)
	}
}

// A client that keeps no position relies on the cursor's.
func TestAPositionThatSkipsIsFound(t *testing.T) {
	w := newTown(t)
	p := w.publisher(t, "p")
	c, stop := w.start(t, verify.ClientConfig{User: "alice", Forget: true, Ack: verify.AckNever})
	live(t, c)
	to(t, p, "alice", "alice")
	streamstest.Eventually(t, patience, w.log.Missing)
	stop()
	to(t, p, "alice")
	_, err := w.jetStream(t).ResetConsumerToSequence(t.Context(), streams.DefaultName, "user-alice", 4)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)
	live(t, c)
	w.finds(t, "lost", "it starts behind p-1 to user:alice")
}

func TestAReplacedStreamMustBeTold(t *testing.T) {
	for name, swallow := range map[string]bool{"and is": false, "and is not": true} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t)
			p := w.publisher(t, "p")
			c, stop := w.start(t, verify.ClientConfig{User: "alice", URLs: []string{relay(t, w.url, func() tamper {
				return func(f wire.Frame) []wire.Frame {
					if _, ok := f.(wire.Gap); ok && swallow {
						return nil
					}
					return []wire.Frame{f}
				}
			})}})
			to(t, p, "alice", "alice")
			live(t, c)
			streamstest.Eventually(t, patience, w.log.Missing)
			stop()
			to(t, p, "alice") // the last of the old stream, which it lacks
			w.log.Replaced()
			if err := w.jetStream(t).DeleteStream(t.Context(), streams.DefaultName); err != nil {
				t.Fatal(err)
			}
			to(t, p, "alice") // as soon as there is a stream
			run(t, c)
			if swallow {
				w.finds(t, "protocol", "no gap stream_reset says so")
				w.finds(t, "lost", "client alice lacks p-3")
				return
			}
			live(t, c)
			to(t, p, "alice")
			w.passes(t)
			if s := w.log.Stats(); s.Gaps[wire.GapStreamReset] == 0 {
				t.Errorf("%s", s)
			}
		})
	}
}

func TestALeakIsFound(t *testing.T) {
	w := newTown(t)
	measure := func() verify.Resources {
		t.Helper()
		r, err := verify.Measure(t.Context(), w.nc)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	c, _ := w.start(t, verify.ClientConfig{User: "alice"})
	live(t, c)
	r := measure()
	if r.Tails != 1 || r.Cursors["alice"] != 1 || len(r.Cursors) != 1 {
		t.Fatalf("%+v", r)
	}
	before := r
	before.Files, r.Files = map[int]int{7: 20}, map[int]int{7: 25}
	if err := r.Since(before); err != nil {
		t.Error(err)
	}
	r.Files = map[int]int{7: 90}
	if err := r.Since(before); err == nil {
		t.Error("70 files are no leak")
	}
	for what, cfg := range map[string]jetstream.ConsumerConfig{
		"a second consumer that reads the stream": {Name: "tidings-left", InactiveThreshold: time.Hour},
		"a second durable of a cursor":            {Durable: "left", Metadata: map[string]string{"user": "alice"}},
	} {
		consumer, err := w.jetStream(t).CreateConsumer(t.Context(), streams.DefaultName, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r = measure()
		r.Files = before.Files
		if err := r.Since(before); err == nil {
			t.Errorf("%s is no leak", what)
		}
		if err := w.jetStream(t).DeleteConsumer(t.Context(), streams.DefaultName, consumer.CachedInfo().Name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFlushWaitsForTheGateway(t *testing.T) {
	w := newTown(t)
	c, stop := w.start(t, verify.ClientConfig{User: "alice"})
	if err := verify.NewClient(w.log, verify.ClientConfig{User: "bob"}).Flush(t.Context()); err == nil {
		t.Error("flushed without a connection")
	}
	live(t, c)
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if err := c.Flush(t.Context()); err == nil {
		t.Error("flushed after the connection")
	}
}
