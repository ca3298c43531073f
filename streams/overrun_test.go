package streams_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// missed reads until the reader is told that it has missed something, which must leave its position where the hole begins.
func (g *gateway) missed(r *streams.Reader, at uint64) {
	g.Helper()
	streamstest.Eventually(g, patience, func() error {
		entries, err := r.Read(testContext(g, patience), nil, 100)
		if errors.Is(err, streams.ErrMissed) && len(entries) == 0 {
			return nil
		}
		return fmt.Errorf("%q, %w", frames(entries), err)
	})
	if r.Position() != at {
		g.Errorf("at %d, the hole begins behind %d", r.Position(), at)
	}
}

// A reader that the stream's limit for each subject has overrun is told, and not given what lies behind the hole.
func TestOverrunByNewerMessages(t *testing.T) {
	t.Parallel()
	const limit = 10
	for name, c := range map[string]struct {
		memory int64
		wait   time.Duration // longer than the stream's past is given from memory
	}{
		"far behind": {500, 0},
		"in memory":  {1 << 20, 4500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: limit}, streams.TailConfig{MaxBytes: c.memory})
			var first uint64
			for i := range 3 {
				first = max(first, g.publish("alice", fmt.Sprint(i)))
			}
			g.reached()
			r, quick := g.userReader(0, "alice"), g.userReader(0, "alice")
			if got := g.read(quick); len(got) != 3 {
				t.Fatalf("read %q", frames(got))
			}
			for i := range limit - 3 {
				g.publish("alice", fmt.Sprint("full ", i))
			}
			g.reached()
			if got := g.read(g.userReader(0, "alice")); len(got) != limit {
				t.Fatalf("a subject at its limit has lost nothing: read %q", frames(got))
			}
			for i := range 12 {
				g.publish("bob", fmt.Sprint("noise ", i))
			}
			for i := range 3 {
				g.publish("alice", fmt.Sprint("over ", i))
			}
			g.reached()
			time.Sleep(c.wait)
			g.missed(r, 0)
			// One that is not behind the limit reads on, from wherever.
			if got := data(g.read(quick)); len(got) != limit || got[limit-1] != "over 2" {
				t.Errorf("the reader that had read three: %q", got)
			}
		})
	}
}

// For a moment, what the stream has dropped for newer messages of the subject is still read from memory: a burst is no loss.
func TestBurstBeyondTheLimitIsReadFromMemory(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: 10}, streams.TailConfig{})
	g.publish("somebody else", "the stream begins here")
	r := g.userReader(0, "alice")
	for i := range 50 {
		g.publish("alice", fmt.Sprint(i))
		g.reached() // or the stream drops it before it is read at all
	}
	if got := g.read(r); len(got) != 50 {
		t.Errorf("read %q", frames(got))
	}
	time.Sleep(4500 * time.Millisecond) // what was read in time is no longer counted
	g.publish("alice", "more")
	if got, err := g.next(r, patience); err != nil || got != "[more]" {
		t.Errorf("%s, %v", got, err)
	}
}

// What the stream drops before it could be read at all is a hole: nobody whose it may be is given what lies behind it.
func TestHoleBeforeItIsRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits streams.Config
		poll   time.Duration
	}{
		"by newer messages":                        {streams.Config{MaxMsgsPerSubject: 3}, time.Hour},
		"by newer messages, as the stream is seen": {streams.Config{MaxMsgsPerSubject: 3}, time.Millisecond},
		"by bytes":                        {streams.Config{MaxMsgsPerSubject: -1, MaxBytes: 1000}, time.Hour},
		"by bytes, as the stream is seen": {streams.Config{MaxMsgsPerSubject: -1, MaxBytes: 1000}, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holeBeforeItIsRead(t, c.limits, c.poll)
		})
	}
}

func holeBeforeItIsRead(t *testing.T, limits streams.Config, poll time.Duration) {
	g := run(t, streamstest.Run(t).Connect(t), limits, streams.TailConfig{Poll: poll})
	subject, last := userSubject(t, "alice"), g.publish("somebody else", "the stream begins here")
	g.reached()
	quiet := g.userReader(0, "bob")
	missed := 0
	for deadline := time.Now().Add(patience); missed == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the stream was read as fast as it was written, again and again: there is no hole to see")
		}
		r := g.userReader(last, "alice")
		for range 500 {
			if _, err := g.js.PublishAsync(subject, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		<-g.js.PublishAsyncComplete()
		end := g.mark().Last
		streamstest.Eventually(t, patience, func() error {
			entries, err := r.Read(testContext(t, patience), nil, 1000)
			for _, e := range entries {
				if e.Seq != last+1 {
					t.Fatalf("%d behind %d, without a word", e.Seq, last)
				}
				last = e.Seq
			}
			switch {
			case errors.Is(err, streams.ErrMissed):
				missed++
				return nil
			case err != nil:
				t.Fatal(err)
			case last < end:
				return fmt.Errorf("at %d of %d", last, end)
			}
			return nil
		})
		if r.Position() != last {
			t.Fatalf("at %d, read %d", r.Position(), last)
		}
		g.reached()
		last = end
	}
	if limits.MaxBytes > 0 {
		return // whose it was is not known then, and all are told
	}
	// Who had nothing there has missed nothing, and goes on.
	g.publish("bob", "fresh")
	if got, err := g.next(quiet, patience); err != nil || got != "[fresh]" {
		t.Errorf("bob: %s, %v", got, err)
	}
}

// A reader that the stream's age has overrun is told as well, be it in memory or far behind.
func TestOverrunByAge(t *testing.T) {
	t.Parallel()
	for name, memory := range map[string]int64{"far behind": 300, "in memory": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxAge: 2 * time.Second},
				streams.TailConfig{MaxBytes: memory, Poll: 100 * time.Millisecond})
			g.publish("bob", "0")
			r, idle := g.userReader(0, "alice"), g.userReader(0, "carol")
			for i := range 10 {
				g.publish("alice", fmt.Sprint(i))
				g.publish("bob", fmt.Sprint(i))
			}
			last := g.reached()
			streamstest.Eventually(t, patience, func() error {
				if st := g.mark(); st.Expired < last {
					return fmt.Errorf("up to %d of %d have expired", st.Expired, last)
				}
				return nil
			})
			streamstest.Eventually(t, patience, func() error { // memory, whose clock is an estimate of the server's, knows as well
				if got := frames(g.read(g.userReader(0, "bob"))); len(got) > 0 {
					return fmt.Errorf("it has %q", got)
				}
				return nil
			})
			g.publish("alice", "fresh")
			g.reached()
			g.missed(r, 0)
			// One for whom there was nothing has missed nothing.
			g.publish("carol", "fresh")
			if got, err := g.next(idle, patience); err != nil || got != "[fresh]" {
				t.Errorf("carol: %s, %v", got, err)
			}
		})
	}
}

// A hole at the start may grow before anything is read: that is told, and ends nobody. Afterwards it does.
func TestAHoleAtTheStartThatGrows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		memory  int64
		readers int
	}{"far behind": {500, 1}, "in memory": {1 << 20, 1}, "in a sweep": {500, 100}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxBytes: 40_000, MaxMsgsPerSubject: -1},
				streams.TailConfig{MaxBytes: c.memory, Poll: 50 * time.Millisecond})
			drop := func() { // all that there is
				last := g.reached()
				for g.mark().Expired < last {
					g.fill(10, 1, 1000) // all of it is read before the stream drops it
					g.reached()
				}
				streamstest.Eventually(t, patience, func() error { // memory knows as well
					if got := frames(g.read(g.userReader(0, "alice"))); len(got) > 0 {
						return fmt.Errorf("it has %q", got)
					}
					return nil
				})
			}
			g.publish("alice", "before the start")
			drop()
			var readers []*streams.Reader
			for range c.readers {
				readers = append(readers, g.userReader(0, "alice"))
			}
			began := g.mark().Expired
			lost := g.publish("alice", "lost")
			drop()
			first := g.publish("alice", "first")
			g.reached()
			var all errgroup.Group
			for _, r := range readers {
				all.Go(func() error {
					if got := r.Expired(); got != 0 {
						return fmt.Errorf("before it is read: up to %d", got)
					}
					entries, err := r.Read(testContext(t, patience), nil, 1)
					if err != nil || len(entries) != 1 || entries[0].Seq != first {
						return fmt.Errorf("%q, %w", frames(entries), err)
					}
					if got := r.Expired(); got < lost || got >= first || r.Expired() != 0 {
						return fmt.Errorf("up to %d may be gone; it was %d at the start, and %d is gone", got, began, lost)
					}
					return nil
				})
			}
			if err := all.Wait(); err != nil {
				t.Error(err)
			}
			lost = g.publish("alice", "lost")
			drop()
			g.publish("alice", "second")
			g.reached()
			for _, r := range readers[:min(3, len(readers))] {
				at := r.Position()
				if at >= lost {
					t.Fatalf("at %d", at)
				}
				g.missed(r, at)
			}
		})
	}
}

func TestPurgeIsTold(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	alice, bob := g.userReader(0, "alice"), g.userReader(0, "bob")
	g.publish("alice", "1")
	g.publish("bob", "2")
	g.reached()
	if alice.Purged() > 0 {
		t.Error("nobody has purged anything")
	}
	if _, _, err := g.stream.Users().Forget(testContext(t, patience), "alice", true); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		if alice.Purged() == 0 {
			return errors.New("alice's reader is not told")
		}
		return nil
	})
	if alice.Purged() > 0 || bob.Purged() > 0 {
		t.Error("told twice, or the wrong one")
	}
	if got := g.read(alice); len(got) != 0 {
		t.Errorf("read %q after the purge", frames(got))
	}
	if got := g.read(bob); len(got) != 1 {
		t.Errorf("bob read %q", frames(got))
	}
}
