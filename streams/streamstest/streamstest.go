// Package streamstest runs real NATS servers for tests: within this process (Run), in a child process that can be
// killed and paused (RunProcess), or as a cluster of such processes (RunCluster). RunProxy puts a TCP proxy between
// client and server that can cut, stall and slow connections. The servers have the defaults of nats-server, like an
// external server. Everything is stopped and removed when the test ends.
//
// A package that uses RunProcess or RunCluster, or that checks its tests for leaked goroutines, needs this function:
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

// Main runs the tests and then the checks, and exits. TestMain calls it. If a check returns an error, the run fails. In
// a child process of RunProcess, Main runs the server instead.
func Main(m *testing.M, checks ...func() error) {
	Child()
	setParallel()
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

// Child runs the server and exits if this process is a child of RunProcess; otherwise it returns. It is for a TestMain
// that does not call Main.
func Child() {
	if spec, ok := os.LookupEnv(childEnv); ok {
		os.Exit(serve(spec))
	}
}

// setParallel allows twice as many parallel tests as there are processors, because these tests mostly wait. It changes
// nothing if the flag -parallel is given, or if Long reports true: long tests load the machine.
func setParallel() {
	flag.Parse()
	keep := Long()
	flag.Visit(func(f *flag.Flag) { keep = keep || f.Name == "test.parallel" })
	if keep {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
}

// BesideOthers marks a test as parallel, unless Long reports true. It is for tests whose short version mostly waits.
func BesideOthers(t *testing.T) {
	if !Long() {
		t.Parallel()
	}
}

// Long reports whether tests may take minutes, which TIDINGS_LONG=1 allows.
func Long() bool { return os.Getenv("TIDINGS_LONG") == "1" }

// Either returns long if Long reports true, and otherwise short.
func Either[T any](short, long T) T {
	if Long() {
		return long
	}
	return short
}

// NoLeaks is a check for Main. It returns an error if goroutines still run after the tests.
func NoLeaks() error { return goleak.Find() }

// Eventually calls cond until it returns nil, at first after 2 ms and later every 50 ms. After timeout, the test fails
// with the last error.
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

// endpoint holds the common part of Server and Process: an address and a store directory, which restarts do not change.
type endpoint struct {
	cfg config
}

// URL returns the server's URL. It stays the same across restarts.
func (e *endpoint) URL() string { return "nats://" + loopback(e.cfg.Port) }

// Dir returns the store directory.
func (e *endpoint) Dir() string { return e.cfg.Dir }

// Connect returns a connection that tries to reconnect every 20 ms, without a limit, and is closed when the test ends.
func (e *endpoint) Connect(tb testing.TB, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	return Connect(tb, e.URL(), opts...)
}

// JetStream returns a JetStream context with a new connection.
func (e *endpoint) JetStream(tb testing.TB, opts ...nats.Option) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(e.Connect(tb, opts...))
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// DeleteStream deletes a stream and waits until its files are removed. Without the wait, if a second stream of this
// name is created and deleted too, nats-server cannot move its files away, and a third stream would contain the
// second's messages.
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

// Connect is like Server.Connect, but for any URL, such as a proxy's.
func Connect(tb testing.TB, url string, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	opts = append([]nats.Option{
		nats.Name(tb.Name()),
		nats.MaxReconnects(-1),
		nats.Timeout(10 * time.Second), // generous, because the machine may be busy
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

// bind calls listen again, for up to 5 s, while the address is in use. A port that this process has just closed can
// stay in use for a moment: a child process that another test is starting holds copies of all open sockets until its
// program is executed.
func bind(listen func() error) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := listen()
		if err == nil || !strings.Contains(err.Error(), "address already in use") || time.Now().After(end) {
			return err
		}
	}
}

// FreePort returns a free TCP port below the ranges from which systems take ports for outgoing connections. So while a
// server is down, no other connection gets its port by chance, and no client that keeps dialing it connects to itself.
// FreePort reserves the port until the test ends by holding the UDP port of the same number, which other tests check,
// also in other processes.
func FreePort(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(12_000)
		reserved, err := net.ListenPacket("udp", loopback(port))
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", loopback(port)); err == nil {
			l.Close()
			tb.Cleanup(func() { reserved.Close() })
			return port
		}
		reserved.Close()
	}
	tb.Fatal("no free port between 20000 and 32000")
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
