// Package streamstest gives tests real NATS servers: in this process (Run), or in a child process that can be killed and
// paused (RunProcess), and a TCP proxy between client and server that cuts, stalls and slows (RunProxy). They are plain
// nats-servers with the server's own defaults, as somebody else would run them. Everything is gone when the test ends.
//
// A package that uses RunProcess, or wants its tests checked for leaked goroutines, has
//
//	func TestMain(m *testing.M) { streamstest.Main(m, streamstest.NoLeaks) }
package streamstest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// Main is what TestMain calls. It runs the tests and then the checks, and exits; a check that returns an error fails a
// run that passed. In the child process of RunProcess it serves instead.
func Main(m *testing.M, checks ...func() error) {
	Child()
	crowd()
	code := m.Run()
	for _, check := range checks {
		if code != 0 {
			break
		}
		if err := check(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Child serves, and exits, where this process is a child of RunProcess. It is for a TestMain that does not call Main.
func Child() {
	if spec, ok := os.LookupEnv(childEnv); ok {
		os.Exit(serve(spec))
	}
}

// crowd lets twice as many tests run beside each other as there are processors, where nobody says otherwise: those that are parallel
// mostly wait. What takes minutes loads the machine, and wants it for itself.
func crowd() {
	flag.Parse()
	asked := Long()
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if asked {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
}

// BesideOthers lets a test run beside others where it is short, and mostly waits.
func BesideOthers(t *testing.T) {
	if !Long() {
		t.Parallel()
	}
}

// Long says whether tests may take minutes: with TIDINGS_LONG=1.
func Long() bool { return os.Getenv("TIDINGS_LONG") == "1" }

// Either returns the first, or the second where tests may take minutes.
func Either[T any](short, long T) T {
	if Long() {
		return long
	}
	return short
}

// NoLeaks is a check for Main: no goroutine is left after the tests.
func NoLeaks() error { return goleak.Find() }

// Eventually polls cond, at first every 2 ms and then up to every 50 ms, until it returns nil. After timeout the test
// fails with its last error.
func Eventually(tb testing.TB, timeout time.Duration, cond func() error) {
	tb.Helper()
	deadline := time.Now().Add(timeout)
	for pause := 2 * time.Millisecond; ; pause = min(pause*3/2, 50*time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().Add(pause).After(deadline) {
			tb.Fatalf("not within %s: %v", timeout, err)
		}
		time.Sleep(pause)
	}
}

// endpoint is what Server and Process have in common: the address, which stays over restarts.
type endpoint struct {
	cfg config
}

// URL of the server. It stays the same over restarts.
func (e *endpoint) URL() string { return "nats://" + loopback(e.cfg.Port) }

// Dir is the store directory.
func (e *endpoint) Dir() string { return e.cfg.Dir }

// Connect returns a connection that comes again for ever, every 20 ms, and is closed when the test ends.
func (e *endpoint) Connect(tb testing.TB, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	return Connect(tb, e.URL(), opts...)
}

// JetStream is that of a new connection.
func (e *endpoint) JetStream(tb testing.TB, opts ...nats.Option) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(e.Connect(tb, opts...))
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// DeleteStream deletes a stream and waits until its files are gone. Until then nats-server fails to move those of a next stream of
// the name away, when that is deleted too, and a third one holds its messages.
func (e *endpoint) DeleteStream(tb testing.TB, name string, opts ...nats.Option) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	if err := e.JetStream(tb, opts...).DeleteStream(ctx, name); err != nil {
		tb.Fatalf("delete stream %s: %v", name, err)
	}
	Eventually(tb, 30*time.Second, func() error {
		left, err := filepath.Glob(filepath.Join(e.cfg.Dir, "jetstream", "*", "streams", "."+name))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("nats-server is still removing %s", left)
		}
		return err
	})
}

// Connect is Server.Connect for any address, such as a proxy's.
func Connect(tb testing.TB, url string, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	opts = append([]nats.Option{
		nats.Name(tb.Name()),
		nats.MaxReconnects(-1),
		nats.Timeout(10 * time.Second), // tests share a machine with others
		nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(5*time.Millisecond, 5*time.Millisecond),
	}, opts...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		tb.Fatalf("connect to %s: %v", url, err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// bind tries again for some seconds where a port is in use that this process has just left: a child that another test forks has all
// that is open here, for as long as it takes until its program is executed.
func bind(listen func() error) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := listen()
		if err == nil || !strings.Contains(err.Error(), "address already in use") || time.Now().After(end) {
			return err
		}
	}
}

// FreePort lies below the ranges from which systems take ports for outgoing connections: while a server is down, nobody
// is given its port by chance, and no client that dials it again and again connects to itself. Until the test ends it holds the UDP
// port of the same number, by which other tests, in this process or another, know that it is taken.
func FreePort(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(12_000)
		mine, err := net.ListenPacket("udp", loopback(port))
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", loopback(port)); err == nil {
			l.Close()
			tb.Cleanup(func() { mine.Close() })
			return port
		}
		mine.Close()
	}
	tb.Fatal("no free port between 20000 and 32000")
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
