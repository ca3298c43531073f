package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestReaderOrder(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	alice := streams.Source{Subject: userSubject(t, "alice")}
	news := streams.Source{Subject: topicSubject(t, "news")}
	both := g.reader(0, alice, news)
	twice := g.reader(0, alice, alice, news, alice)
	own := g.reader(0, alice)
	none := g.reader(0)

	g.publish("alice", "1")
	g.publishTopic("news", "2")
	g.publish("bob", "bob's")
	g.publishTopic("weather", "not asked for")
	g.publish("alice", "3")
	g.publishTopic("news", "4")
	last := g.publish("bob", "bob's")

	g.wants(both, "1", "2", "3", "4")
	g.wants(twice, "1", "2", "3", "4")
	g.wants(own, "1", "3")
	g.wants(none)
	g.wants(both)
	g.wants(g.reader(2, alice, news), "3", "4")
	g.wants(g.reader(0, alice, streams.Source{Subject: news.Subject, After: 2}), "1", "3", "4")
	g.wants(g.reader(4, alice, streams.Source{Subject: news.Subject, After: 2}), "3", "4")
	g.wants(g.reader(0, alice, streams.Source{Subject: news.Subject, After: 100}), "1", "3")
	g.wants(g.reader(last, alice, news))
	if own.Position() != last {
		t.Errorf("the position is %d, the stream's end %d", own.Position(), last)
	}

	// A topic that is granted later begins at the reader's position, and one may lose a topic.
	r := g.reader(0, alice)
	g.wants(r, "1", "3")
	r.Sources([]streams.Source{alice, news})
	g.publishTopic("news", "5")
	g.wants(r, "5")
	r.Sources([]streams.Source{news})
	g.publish("alice", "6")
	g.wants(r)
	r.Close()
	r.Close() // no harm
}

// Frames stay what they were, long after they left the ring.
func TestFramesAreShared(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{MaxBytes: 10_000})
	g.publish("a", "first")
	g.reached()
	var entries [][]streams.Entry
	for range 2 {
		entries = append(entries, g.read(g.userReader(0, "a")))
	}
	if &entries[0][0].Frame[0] != &entries[1][0].Frame[0] {
		t.Error("two readers have two frames")
	}
	if cap(entries[0][0].Frame) != len(entries[0][0].Frame) {
		t.Error("an append to a frame would write over the next")
	}
	g.fill(1000, 3, 100)
	if got := string(entries[0][0].Frame); got != "1 notify.user.a first" {
		t.Errorf("it became %q", got)
	}
	if at := entries[0][0].Time; time.Since(at) > time.Minute || time.Until(at) > 0 {
		t.Errorf("stored at %s", at)
	}
}

// A wake-up is never lost, whenever a message comes.
func TestWake(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{Poll: time.Hour})
	subject := userSubject(t, "a")
	after := uint64(0)
	for range 1000 {
		stored := make(chan uint64, 1)
		go func() { // while the reader attaches
			receipt, err := g.pub.User(t.Context(), "a", streams.Notification{})
			if err != nil {
				t.Error(err)
			}
			stored <- receipt.Seq
		}()
		r, err := g.tail.Reader(g.mark(), after, []streams.Source{{Subject: subject}})
		if err != nil {
			t.Fatal(err)
		}
		for late := time.After(patience); ; {
			entries, err := r.Read(t.Context(), nil, 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) > 0 {
				after = entries[0].Seq
				break
			}
			select {
			case <-r.Wake():
			case <-late:
				t.Fatalf("not woken for %d", <-stored)
			}
		}
		r.Close()
		if seq := <-stored; seq != after {
			t.Fatalf("read %d, stored %d", after, seq)
		}
	}
}

func TestManyReaders(t *testing.T) {
	const messages, readers = 5000, 50
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{})
	news := topicSubject(t, "news")
	mark := g.mark()
	var all errgroup.Group
	for i := range readers {
		all.Go(func() error {
			user := fmt.Sprint(i % 5)
			r, err := g.tail.Reader(mark, 0, []streams.Source{{Subject: userSubject(t, user)}, {Subject: news}})
			if err != nil {
				return err
			}
			defer r.Close()
			last := uint64(0)
			for n := 0; n < messages/5; {
				entries, err := r.Read(t.Context(), nil, 1+i)
				if err != nil {
					return err
				}
				for _, e := range entries {
					if e.Seq <= last {
						return fmt.Errorf("%d after %d", e.Seq, last)
					}
					last = e.Seq
				}
				if n += len(entries); len(entries) == 0 {
					select {
					case <-r.Wake():
					case <-time.After(patience):
						return fmt.Errorf("reader %d has %d messages, and none comes", i, n)
					}
				}
			}
			return nil
		})
	}
	g.fill(messages, 5, 50)
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// The poll looks at the stream while messages come in; what came meanwhile must not look like a stream that went back.
func TestPollUnderLoad(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{Poll: time.Millisecond})
	epoch := g.tail.Epoch()
	r := g.userReader(0, "1")
	for range 5 {
		g.fill(1000, 2, 10)
	}
	g.reached()
	if n := len(g.read(r)); n != 2500 {
		t.Errorf("%d messages, want 2,500", n)
	}
	if now := g.tail.Epoch(); now != epoch {
		t.Errorf("epoch %s became %s", epoch, now)
	}
}

func TestMark(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	var all errgroup.Group
	for i := range 16 {
		all.Go(func() error {
			for range 50 {
				receipt, err := g.pub.User(t.Context(), fmt.Sprint(i), streams.Notification{})
				if err != nil {
					return err
				}
				mark, err := g.tail.Mark(t.Context())
				if err != nil || mark.Last < receipt.Seq || mark.Epoch != g.tail.Epoch() {
					return fmt.Errorf("a mark of %+v after %d was stored: %w", mark, receipt.Seq, err)
				}
				select {
				case <-g.tail.Reached(mark.Epoch, mark.Last):
				case <-time.After(patience):
					return errors.New("it is not reached")
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.tail.Mark(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	select {
	case <-g.tail.Reached("another", 1<<40):
	default:
		t.Error("one waits for an epoch that is not")
	}
	if _, err := g.tail.Reader(streams.State{Epoch: "another"}, 0, nil); !errors.Is(err, streams.ErrReplaced) {
		t.Errorf("a reader of another epoch: %v", err)
	}
}

// The end of the stream is reached also where its last messages are deleted, or the server's marks of deletions.
func TestReachedWhereNothingIs(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: time.Hour})
	ctx := testContext(t, patience)
	r := g.userReader(0, "a")
	g.publish("a", "1")
	g.wants(r, "1")
	for range 20 {
		last := g.publish("a", "deleted")
		if err := g.jetstream().DeleteMsg(ctx, last); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	g.reached()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	g.publish("a", "2")
	g.reached()
	g.wants(g.userReader(21, "a"), "2")
	// A tail that starts there.
	if err := g.jetstream().Purge(ctx); err != nil {
		t.Fatal(err)
	}
	other := run(t, g.nc, streams.Config{}, streams.TailConfig{Poll: time.Hour})
	other.reached()
	other.wants(other.userReader(0, "a"))
	g.publish("a", "3")
	other.wants(other.userReader(0, "a"), "3")
}

// A Tail takes no more memory than it may, and has the newest.
func TestWarmStart(t *testing.T) {
	t.Parallel()
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1})
	g.fill(2000, 10, 1000)
	var encoded atomic.Int32
	count := func(dst []byte, m *streams.Message) []byte {
		encoded.Add(1)
		return encode(dst, m)
	}
	g = run(t, g.nc, streams.Config{}, streams.TailConfig{MaxBytes: 500_000, Encode: count})
	if n := encoded.Load(); n < 300 || n > 600 {
		t.Errorf("%d messages were read into a ring that holds 460", n)
	}
	var subjects []string
	var sources []streams.Source
	for i := range 10 {
		subjects = append(subjects, userSubject(t, fmt.Sprint(i)))
		sources = append(sources, streams.Source{Subject: subjects[i]})
	}
	want := g.stored(0, subjects...)
	if got := frames(g.read(g.reader(0, sources...))); !slices.Equal(got, want) {
		t.Fatalf("%d messages, the stream has %d", len(got), len(want))
	}
	// The newest are served without asking the stream.
	encoded.Store(0)
	if got := frames(g.read(g.reader(1700, sources...))); !slices.Equal(got, want[1700:]) {
		t.Fatalf("%d messages, want the last 300", len(got))
	}
	if n := encoded.Load(); n > 0 {
		t.Errorf("%d messages were read again", n)
	}
}

// What the stream's age limit took is not delivered from memory, and costs no cold read.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxAge: time.Second}, streams.TailConfig{Poll: time.Hour})
	if _, err := g.js.PublishMsg(testContext(t, patience), &nats.Msg{
		Subject: userSubject(t, "a"), Header: nats.Header{"Nats-TTL": {"never"}}, Data: []byte("stays"),
	}); err != nil {
		t.Fatal(err)
	}
	g.publish("a", "old")
	g.wants(g.userReader(0, "a"), "stays", "old")
	if st := g.mark(); st.First != 1 || st.Expired != 0 {
		t.Errorf("at first: %+v", st)
	}
	streamstest.Eventually(t, patience, func() error {
		if got := data(g.read(g.userReader(0, "a"))); !slices.Equal(got, []string{"stays"}) {
			return fmt.Errorf("memory has %q", got)
		}
		return nil
	})
	streamstest.Eventually(t, patience, func() error {
		if got := g.stored(0, userSubject(t, "a")); len(got) != 1 {
			return fmt.Errorf("the stream has %q", got)
		}
		return nil
	})
	if st := g.mark(); st.First != 1 || st.Expired != 2 { // what stays says nothing about the others
		t.Errorf("in the end: %+v", st)
	}
}

// What an operator takes away is not delivered from memory either.
func TestPurged(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: 100 * time.Millisecond})
	ctx := testContext(t, patience)
	eventually := func(what string, want ...string) {
		t.Helper()
		sources := []streams.Source{{Subject: userSubject(t, "a")}, {Subject: userSubject(t, "b")}, {Subject: topicSubject(t, "a")}}
		streamstest.Eventually(t, 5*time.Second, func() error {
			if got := data(g.read(g.reader(0, sources...))); !slices.Equal(got, want) {
				return fmt.Errorf("after %s: %q, want %q", what, got, want)
			}
			return nil
		})
	}
	for _, user := range []string{"a", "b"} {
		for i := range 5 {
			g.publish(user, fmt.Sprint(user, i))
		}
	}
	g.publishTopic("a", "topic")
	g.reached()
	lagging := g.userReader(0, "b")
	stream := g.jetstream()
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"one message", func() error { return stream.DeleteMsg(ctx, 2) }, []string{"a0", "a2", "a3", "a4", "b0", "b1", "b2", "b3", "b4", "topic"}},
		{"another, for sure", func() error { return stream.SecureDeleteMsg(ctx, 11) }, []string{"a0", "a2", "a3", "a4", "b0", "b1", "b2", "b3", "b4"}},
		{"all but two of a subject", func() error {
			return stream.Purge(ctx, jetstream.WithPurgeSubject("notify.user.b"), jetstream.WithPurgeKeep(2))
		}, []string{"a0", "a2", "a3", "a4", "b3", "b4"}},
		{"a subject up to a seq", func() error {
			return stream.Purge(ctx, jetstream.WithPurgeSubject("notify.user.a"), jetstream.WithPurgeSequence(4))
		}, []string{"a3", "a4", "b3", "b4"}},
		{"up to a seq", func() error { return stream.Purge(ctx, jetstream.WithPurgeSequence(5)) }, []string{"a4", "b3", "b4"}},
		{"a subject", func() error { return stream.Purge(ctx, jetstream.WithPurgeSubject("notify.user.a")) }, []string{"b3", "b4"}},
		{"all users", func() error { return stream.Purge(ctx, jetstream.WithPurgeSubject("notify.user.*")) }, nil},
	} {
		if err := step.do(); err != nil {
			t.Fatal(step.what, err)
		}
		eventually(step.what, step.want...)
	}
	g.publish("a", "new")
	eventually("a publish", "new")
	if err := stream.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	eventually("all")
	g.wants(lagging)
	g.publish("b", "newest")
	g.wants(lagging, "newest")
}

// What the stream dropped by its own limits is not delivered any more after the next look.
func TestMaxBytes(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxBytes: 20_000}, streams.TailConfig{Poll: 50 * time.Millisecond})
	g.fill(100, 1, 1000)
	streamstest.Eventually(t, patience, func() error {
		got, want := frames(g.read(g.userReader(0, "0"))), g.stored(0, userSubject(t, "0"))
		if !slices.Equal(got, want) || len(got) == 0 {
			return fmt.Errorf("%d messages from memory, the stream has %d", len(got), len(want))
		}
		return nil
	})
}

// Run ends while nobody answers, and leaves nothing behind.
func TestTailEnds(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t)
	proxy := streamstest.RunProxy(t, s.URL())
	for name, end := range map[string]func(g *gateway){
		"healthy":           func(*gateway) {},
		"stalled":           func(*gateway) { proxy.Stall() },
		"cut":               func(*gateway) { proxy.Cut() },
		"connection closed": func(g *gateway) { g.nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			g := open(t, streamstest.Connect(t, proxy.URL()), streams.Config{})
			tail := streams.NewTail(g.stream, streams.TailConfig{Encode: encode})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- tail.Run(ctx) }()
			<-tail.Ready()
			end(g)
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Error("it does not end")
			}
			proxy.Restore()
		})
	}
}

// A Tail says whether it can be relied upon: not before it is warm, nor while the stream does not answer.
func TestCheck(t *testing.T) {
	t.Parallel()
	server := streamstest.RunProcess(t)
	nc := server.Connect(t)
	g := open(t, nc, streams.Config{})
	tail := streams.NewTail(g.stream, streams.TailConfig{Encode: encode, Poll: 50 * time.Millisecond})
	if tail.Check() == nil {
		t.Error("it does not run yet, and says that it is warm")
	}
	start(t, tail.Run)
	sound := func() { streamstest.Eventually(t, 20*time.Second, tail.Check) }
	sound()
	server.Pause()
	streamstest.Eventually(t, 20*time.Second, func() error {
		if tail.Check() == nil {
			return errors.New("the stream does not answer, and it does not say so")
		}
		return nil
	})
	server.Resume()
	sound()
}
