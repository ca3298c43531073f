package streams_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// next waits for the reader's next message.
func (g *gateway) next(r *streams.Reader, within time.Duration) (string, error) {
	g.Helper()
	for late := time.After(within); ; {
		entries, err := r.Read(g.Context(), nil, 1)
		if err != nil || len(entries) == 1 {
			return fmt.Sprint(data(entries)), err
		}
		select {
		case <-r.Wake():
		case <-late:
			return "", fmt.Errorf("nothing within %s", within)
		}
	}
}

// replaced waits until the reader is told, as it must be without a look of its own.
func (g *gateway) replaced(r *streams.Reader) {
	g.Helper()
	for late := time.After(patience); ; {
		if _, err := r.Read(g.Context(), nil, 10); errors.Is(err, streams.ErrReplaced) {
			return
		}
		select {
		case <-r.Wake():
		case <-late:
			g.Fatal("nobody tells that the stream was replaced")
		}
	}
}

// A break costs milliseconds of delay, and nothing else.
func TestLiveAfterACut(t *testing.T) {
	s := streamstest.Run(t)
	proxy := streamstest.RunProxy(t, s.URL())
	g := run(t, streamstest.Connect(t, proxy.URL()), streams.Config{}, streams.TailConfig{})
	direct := open(t, s.Connect(t), streams.Config{})
	r := g.userReader(0, "a")
	for i := range 10 {
		proxy.Cut()
		direct.publish("a", fmt.Sprint(i))
		proxy.Restore()
		if got, err := g.next(r, 4*time.Second); err != nil || got != fmt.Sprintf("[%d]", i) {
			t.Fatalf("%d: %s, %v", i, got, err)
		}
	}
}

func TestConsumerDeleted(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	r := g.userReader(0, "a")
	for i := range 5 {
		streamstest.Eventually(t, patience, func() error {
			var names []string
			for name := range g.jetstream().ConsumerNames(t.Context()).Name() {
				names = append(names, name)
			}
			if len(names) != 1 {
				return fmt.Errorf("%d consumers for one tail", len(names))
			}
			return g.js.DeleteConsumer(testContext(t, patience), g.stream.Name(), names[0])
		})
		g.publish("a", fmt.Sprint(i))
		if got, err := g.next(r, patience); err != nil || got != fmt.Sprintf("[%d]", i) {
			t.Fatalf("%d: %s, %v", i, got, err)
		}
		g.reached()
	}
}

// A stream that is made anew, by an operator or by us, is another one for everybody.
func TestStreamRecreated(t *testing.T) {
	s := streamstest.Run(t)
	g := run(t, s.Connect(t), streams.Config{}, streams.TailConfig{})
	other := run(t, g.nc, streams.Config{}, streams.TailConfig{})
	for i := range 4 {
		for j := range 3 + i {
			g.publish("a", fmt.Sprint("old ", j))
		}
		epoch := g.tail.Epoch()
		r, quiet := g.userReader(0, "a"), g.userReader(0, "nobody")
		reached := g.tail.Reached(epoch, 1<<40)
		s.DeleteStream(t, g.stream.Name())
		if i%2 == 1 { // with more messages than before, so that its sequences say nothing
			open(t, g.nc, streams.Config{})
			for j := range 10 {
				g.publish("a", fmt.Sprint("new ", j))
			}
		}
		g.replaced(r)
		g.replaced(quiet)
		select {
		case <-reached:
		case <-time.After(patience):
			t.Error("one waits for the old stream")
		}
		g.publish("a", "newest")
		fresh := g.userReader(0, "a")
		g.reached()
		if got, want := frames(g.read(fresh)), g.stored(0, userSubject(t, "a")); !slices.Equal(got, want) {
			t.Errorf("read %q of the new stream, it has %q", got, want)
		}
		streamstest.Eventually(t, patience, func() error {
			if a, b := g.tail.Epoch(), other.tail.Epoch(); a != b || a == epoch {
				return fmt.Errorf("epochs %s and %s, before %s", a, b, epoch)
			}
			return nil
		})
	}
}

// A stream that was restored from an older copy has another epoch, also where it has grown since past what was read.
func TestStreamWentBack(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]int{"shorter": 1, "grown": 50} {
		t.Run(name, func(t *testing.T) {
			s := streamstest.Run(t)
			proxy := streamstest.RunProxy(t, s.URL())
			direct := open(t, s.Connect(t), streams.Config{})
			var gateways []*gateway
			for range 2 {
				gateways = append(gateways, run(t, streamstest.Connect(t, proxy.URL()), streams.Config{}, streams.TailConfig{}))
			}
			for i := range 10 {
				direct.publish("a", fmt.Sprint("kept ", i))
			}
			s.Stop()
			backup := filepath.Join(t.TempDir(), "backup")
			if err := os.CopyFS(backup, os.DirFS(s.Dir())); err != nil {
				t.Fatal(err)
			}
			s.Restart()
			for i := range 10 {
				direct.publish("a", fmt.Sprint("lost ", i))
			}
			var readers []*streams.Reader
			for _, g := range gateways {
				g.reached()
				readers = append(readers, g.userReader(0, "a"))
				if n := len(g.read(readers[len(readers)-1])); n != 20 {
					t.Fatalf("%d messages", n)
				}
			}
			epoch := gateways[0].tail.Epoch()

			proxy.Cut()
			s.Stop()
			if err := os.RemoveAll(s.Dir()); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(s.Dir(), os.DirFS(backup)); err != nil {
				t.Fatal(err)
			}
			s.Restart()
			for i := range more {
				direct.publish("a", fmt.Sprint("after ", i))
			}
			proxy.Restore()
			for i, g := range gateways {
				g.replaced(readers[i])
			}
			streamstest.Eventually(t, patience, func() error {
				a, b := gateways[0].tail.Epoch(), gateways[1].tail.Epoch()
				if st, err := direct.stream.State(t.Context()); err != nil || st.Epoch != a || a != b || a == epoch {
					return fmt.Errorf("epochs %s and %s, before %s, of the stream %s: %w", a, b, epoch, st.Epoch, err)
				}
				return nil
			})
			for _, g := range gateways {
				r := g.userReader(0, "a")
				g.reached()
				if got, want := frames(g.read(r)), direct.stored(0, userSubject(t, "a")); !slices.Equal(got, want) || len(got) != 10+more {
					t.Errorf("read %q, the stream has %q", got, want)
				}
			}
		})
	}
}

// A new epoch by hand is one to all gateways.
func TestNewEpoch(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: 100 * time.Millisecond})
	g.publish("a", "1")
	r := g.userReader(0, "a")
	st, err := g.stream.NewEpoch(testContext(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	g.replaced(r)
	g.wants(g.userReader(0, "a"), "1")
	if g.tail.Epoch() != st.Epoch {
		t.Errorf("epoch %s, want %s", g.tail.Epoch(), st.Epoch)
	}
}

// A tail may begin before the server does, and before the stream is there.
func TestTailBeforeTheServer(t *testing.T) {
	s := streamstest.Run(t)
	proxy := streamstest.RunProxy(t, s.URL())
	g := open(t, streamstest.Connect(t, proxy.URL()), streams.Config{})
	if err := s.JetStream(t).DeleteStream(testContext(t, patience), g.stream.Name()); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	g.tail = streams.NewTail(g.stream, streams.TailConfig{Encode: encode})
	if _, err := g.tail.Reader(streams.State{}, 0, nil); !errors.Is(err, streams.ErrReplaced) {
		t.Errorf("a reader of nothing: %v", err)
	}
	start(t, g.tail.Run)
	select {
	case <-g.tail.Ready():
		t.Error("ready without a server")
	case <-time.After(50 * time.Millisecond):
	}
	proxy.Restore()
	select {
	case <-g.tail.Ready():
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	g.publish("a", "1")
	g.wants(g.userReader(0, "a"), "1")
}

// What nats.go drops because it does not keep up is read again.
func TestSlowTail(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t)
	nc := s.Connect(t, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), nats.SyncQueueLen(1))
	slow := func(dst []byte, m *streams.Message) []byte {
		time.Sleep(50 * time.Microsecond)
		return encode(dst, m)
	}
	g := run(t, nc, streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{Encode: slow})
	r := g.userReader(0, "0")
	open(t, s.Connect(t), streams.Config{}).fill(1000, 1, 9000)
	g.reached()
	if n := len(g.read(r)); n != 1000 {
		t.Errorf("%d messages", n)
	}
}

// Two tails, and all that they ask for, leave nothing behind in the server.
func TestNoConsumersLeft(t *testing.T) {
	s := streamstest.Run(t)
	t.Run("run", func(t *testing.T) {
		for range 3 {
			run(t, s.Connect(t), streams.Config{}, streams.TailConfig{}).publish("a", "1")
		}
	})
	stream, err := s.JetStream(t).Stream(testContext(t, patience), streams.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("%d consumers", n)
	}
}
