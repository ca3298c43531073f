//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// The fault tests run `tidings gateway` in processes of their own, which they kill, pause and end while publishers publish and
// clients come again, and let package verify say whether everything held. They are for Linux: they pause processes, and count
// their files.

// longer is how long a fault test waits for what must come, on the slowest machine.
const longer = 2 * time.Minute

// either returns the first number, or the second with TIDINGS_LONG=1.
func either(short, long int) int {
	if os.Getenv("TIDINGS_LONG") == "1" {
		return long
	}
	return short
}

// besideOthers lets a test run beside others where it is short, and mostly waits.
func besideOthers(t *testing.T) {
	if os.Getenv("TIDINGS_LONG") != "1" {
		t.Parallel()
	}
}

// gateway is a `tidings gateway` in a process of its own, which may end and start again at the same address.
type gateway struct {
	t      *testing.T
	listen string
	args   []string
	log    string // file

	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has ended
	served int64         // length of the log when the process was started
}

// runGateway starts a gateway with these flags and waits until it serves.
func runGateway(t *testing.T, args ...string) *gateway {
	t.Helper()
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	g := &gateway{
		t: t, listen: listen, log: filepath.Join(t.TempDir(), "gateway.log"),
		args: append([]string{"gateway", "--listen", listen}, args...),
	}
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			text, _ := os.ReadFile(g.log)
			t.Logf("gateway %s, the end of its log:\n%s", g.listen, text[max(0, len(text)-20_000):])
		}
	})
	g.start()
	return g
}

func (g *gateway) url() string { return "ws://" + g.listen }

func (g *gateway) pid() int { return g.cmd.Process.Pid }

// start starts the process, and waits until it serves.
func (g *gateway) start() {
	g.t.Helper()
	g.launch()
	streamstest.Eventually(g.t, longer, func() error {
		select {
		case <-g.done:
			g.t.Fatalf("gateway %s did not start: %s", g.listen, g.cmd.ProcessState)
		default:
		}
		text, err := os.ReadFile(g.log)
		if err == nil && !bytes.Contains(text[g.served:], []byte(`"message":"serving"`)) {
			err = errors.New("it does not serve yet")
		}
		return err
	})
}

// launch starts the process and waits for nothing.
func (g *gateway) launch() {
	g.t.Helper()
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		g.t.Fatal(err)
	}
	g.served = info.Size()
	g.cmd = exec.Command("tidings", g.args...)
	// The race detector sleeps for a second before each exit otherwise.
	g.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10 "+os.Getenv("GORACE"))
	g.cmd.Stdout, g.cmd.Stderr = log, log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	cmd, done := g.cmd, make(chan struct{})
	g.done = done
	go func() {
		_ = cmd.Wait() // ProcessState says it all
		close(done)
	}()
}

// kill ends the process with SIGKILL.
func (g *gateway) kill() {
	if g.cmd != nil {
		_ = g.cmd.Process.Kill()
		<-g.done
	}
}

func (g *gateway) signal(s syscall.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Fatalf("gateway %s: %v", g.listen, err)
	}
}

// terminate sends SIGTERM and returns the exit code once the process has ended, which it must within bound.
func (g *gateway) terminate(bound time.Duration) (code int) {
	g.t.Helper()
	began := time.Now()
	g.signal(syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(bound):
		g.signal(syscall.SIGQUIT) // for its goroutines
		<-g.done
		g.t.Fatalf("gateway %s still runs %s after SIGTERM", g.listen, bound)
	}
	g.t.Logf("the gateway ended with %d, %s after SIGTERM", g.cmd.ProcessState.ExitCode(), time.Since(began).Round(time.Millisecond))
	return g.cmd.ProcessState.ExitCode()
}

// freePort lies below the ports that systems take for outgoing connections, so that nobody is given it while a gateway is down.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return 0
}

// town is what is around gateways: who answers for tokens (a token is its user's name, and grants the topic "all" but to the
// quiet), who publishes, who listens, and the Log of it all.
type town struct {
	t   *testing.T
	nc  *nats.Conn
	log *verify.Log

	publishers []func() // end them
	named      int
}

func newTown(t *testing.T, natsURL string) *town {
	t.Helper()
	w := &town{t: t, nc: streamstest.Connect(t, natsURL), log: &verify.Log{}}
	answer := func(_ context.Context, r auth.Request) (auth.Identity, error) {
		return auth.Identity{User: r.Token, Topics: topicsOf(r.Token)}, nil
	}
	responder := auth.NewResponder(w.nc, auth.AuthenticatorFunc(answer), auth.ResponderConfig{})
	w.during(responder.Run)
	select {
	case <-responder.Ready():
	case <-time.After(longer):
		t.Fatal("the responder does not get ready")
	}
	return w
}

func topicsOf(user string) []string {
	if strings.HasPrefix(user, "quiet") {
		return nil
	}
	return []string{"all"}
}

// during runs something until the test ends, or stop is called.
func (w *town) during(run func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// client runs a client until the test ends, or stop is called.
func (w *town) client(cfg verify.ClientConfig) (c *verify.Client, stop func()) {
	cfg.Topics = topicsOf(cfg.User)
	c = verify.NewClient(w.log, cfg)
	return c, w.during(c.Run)
}

// clients runs a client for each user.
func (w *town) clients(users []string, cfg verify.ClientConfig) (all []*verify.Client, stop func()) {
	var stops []func()
	for _, user := range users {
		cfg.User = user
		c, stop := w.client(cfg)
		all, stops = append(all, c), append(stops, stop)
	}
	return all, func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func (w *town) publisher() *verify.Publisher {
	w.t.Helper()
	w.named++
	p, err := verify.NewPublisher(w.log, w.nc, "p"+strconv.Itoa(w.named))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// publish has somebody publish to the users in turn, and to the topic after each round, until quiet.
func (w *town) publish(every time.Duration, users []string) {
	w.t.Helper()
	p := w.publisher()
	w.publishers = append(w.publishers, w.during(func(ctx context.Context) error {
		p.Run(ctx, every, users, []string{"all"})
		return nil
	}))
}

// quiet ends all publishers.
func (w *town) quiet() {
	for _, stop := range w.publishers {
		stop()
	}
	w.publishers = nil
}

// each publishes one to each user.
func (w *town) each(users []string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), longer)
	defer cancel()
	var all errgroup.Group
	for some := range slices.Chunk(users, len(users)/8+1) {
		p := w.publisher()
		all.Go(func() error {
			for _, user := range some {
				if err := p.User(ctx, user); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		w.t.Fatal(err)
	}
}

// live waits until the clients are.
func (w *town) live(clients ...*verify.Client) {
	w.t.Helper()
	streamstest.Eventually(w.t, longer, func() error {
		waiting := 0
		for _, c := range clients {
			if !c.Live() {
				waiting++
			}
		}
		if waiting > 0 {
			return fmt.Errorf("%d of %d clients are not live; %s", waiting, len(clients), w.log.Stats())
		}
		return nil
	})
}

// flush waits until gateways have read what the clients acknowledged.
func (w *town) flush(clients ...*verify.Client) {
	w.t.Helper()
	for _, c := range clients {
		if err := c.Flush(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// complete waits until nothing is missing.
func (w *town) complete() {
	w.t.Helper()
	streamstest.Eventually(w.t, longer, w.log.Missing)
}

// passes ends the publishers, waits until nothing is missing, and checks everything.
func (w *town) passes() {
	w.t.Helper()
	w.quiet()
	w.complete()
	if err := w.log.Check(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Log(w.log.Stats())
}

// many are n names.
func many(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", prefix, i+1))
	}
	return names
}
