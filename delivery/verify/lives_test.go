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

func (w *system) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestReconnectingClientsLoseNothing(t *testing.T) {
	w := newSystem(t)
	p := w.publisher(t, "p")
	p.Pad = 300
	publish := func() {
		publishTo(t, p, "alice", "bob", "alice", "carol")
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
	stop() // alice is offline until run
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
		t.Errorf("alice's position is %d in epoch %q", seq, epoch)
	}
}

// TestAckedFramesAreRecorded checks that a client records what another client with the same position has acknowledged.
func TestAckedFramesAreRecorded(t *testing.T) {
	w := newSystem(t)
	one, _ := w.start(t, verify.ClientConfig{User: "alice", Name: "one"})
	other, _ := w.start(t, verify.ClientConfig{User: "alice", Name: "other", Ack: verify.AckNever})
	live(t, one, other)
	publishTo(t, w.publisher(t, "p"), "alice", "alice")
	streamstest.Eventually(t, waitTimeout, func() error {
		itself, _ := one.Acknowledged()
		sent, received := other.Acknowledged()
		if itself != 2 || sent != 0 || received != 2 {
			return fmt.Errorf("one acknowledged %d, the other acknowledged %d and received acked %d", itself, sent, received)
		}
		return nil
	})
	w.passes(t)
	if s := w.log.Stats(); s.Acked == 0 {
		t.Errorf("%s", s)
	}
}

// TestSkippedStartIsFound moves the stored position past unread notifications, where a client that sends no position
// starts.
func TestSkippedStartIsFound(t *testing.T) {
	w := newSystem(t)
	p := w.publisher(t, "p")
	c, stop := w.start(t, verify.ClientConfig{User: "alice", Forget: true, Ack: verify.AckNever})
	live(t, c)
	publishTo(t, p, "alice", "alice")
	streamstest.Eventually(t, waitTimeout, w.log.Missing)
	stop()
	publishTo(t, p, "alice")
	_, err := w.jetStream(t).ResetConsumerToSequence(t.Context(), streams.DefaultName, "user-alice", 4)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)
	live(t, c)
	w.finds(t, "lost", "it starts after p-1 to user:alice")
}

func TestReplacedStreamNeedsGap(t *testing.T) {
	for name, dropGap := range map[string]bool{"with gap": false, "without gap": true} {
		t.Run(name, func(t *testing.T) {
			w := newSystem(t)
			p := w.publisher(t, "p")
			c, stop := w.start(t, verify.ClientConfig{User: "alice", URLs: []string{relay(t, w.url, func() tamper {
				return func(f wire.Frame) []wire.Frame {
					if _, ok := f.(wire.Gap); ok && dropGap {
						return nil
					}
					return []wire.Frame{f}
				}
			})}})
			publishTo(t, p, "alice", "alice")
			live(t, c)
			streamstest.Eventually(t, waitTimeout, w.log.Missing)
			stop()
			publishTo(t, p, "alice") // the last of the old stream, which the client does not receive
			w.log.Replaced()
			if err := w.jetStream(t).DeleteStream(t.Context(), streams.DefaultName); err != nil {
				t.Fatal(err)
			}
			publishTo(t, p, "alice") // succeeds once the new stream exists
			run(t, c)
			if dropGap {
				w.finds(t, "protocol", "there is no gap stream_reset")
				w.finds(t, "lost", "client alice did not receive p-3")
				return
			}
			live(t, c)
			publishTo(t, p, "alice")
			w.passes(t)
			if s := w.log.Stats(); s.Gaps[wire.GapStreamReset] == 0 {
				t.Errorf("%s", s)
			}
		})
	}
}

func TestLeakIsFound(t *testing.T) {
	w := newSystem(t)
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
		t.Error("70 more files were not reported as a leak")
	}
	for what, cfg := range map[string]jetstream.ConsumerConfig{
		"a second consumer that reads the stream": {Name: "tidings-left", InactiveThreshold: time.Hour},
		"a second durable of a position":          {Durable: "left", Metadata: map[string]string{"user": "alice"}},
	} {
		consumer, err := w.jetStream(t).CreateConsumer(t.Context(), streams.DefaultName, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r = measure()
		r.Files = before.Files
		if err := r.Since(before); err == nil {
			t.Errorf("%s was not reported as a leak", what)
		}
		if err := w.jetStream(t).DeleteConsumer(t.Context(), streams.DefaultName, consumer.CachedInfo().Name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFlushWaitsForTheGateway(t *testing.T) {
	w := newSystem(t)
	c, stop := w.start(t, verify.ClientConfig{User: "alice"})
	if err := verify.NewClient(w.log, verify.ClientConfig{User: "bob"}).Flush(t.Context()); err == nil {
		t.Error("Flush without a connection returned no error")
	}
	live(t, c)
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if err := c.Flush(t.Context()); err == nil {
		t.Error("Flush after the end of the connection returned no error")
	}
}
