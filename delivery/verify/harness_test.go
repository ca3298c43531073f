package verify_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestMain(m *testing.M) { streamstest.Main(m, streamstest.NoLeaks) }

// waitTimeout limits how long a test waits for an expected condition.
const waitTimeout = 30 * time.Second

// system is a NATS server, a gateway, a responder that uses the token as the user and grants the topic "all", and a
// Log.
type system struct {
	nc  *nats.Conn
	url string // of the gateway
	log *verify.Log
}

func newSystem(t *testing.T) *system {
	t.Helper()
	server := streamstest.Run(t)
	nc := streamstest.Connect(t, server.URL())
	own := streamstest.Connect(t, server.URL())
	stream, err := streams.Open(t.Context(), own, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tail := streams.NewTail(stream, streams.TailConfig{Encode: delivery.Encode, Poll: 100 * time.Millisecond})
	cursors := streams.NewCursors(tail, streams.CursorsConfig{Interval: 100 * time.Millisecond, Committed: delivery.Committed(own)})
	gateway := delivery.New(delivery.Config{
		NATS: own, Auth: auth.NewRequester(own, auth.RequesterConfig{}), Stream: stream, Tail: tail, Cursors: cursors,
		Ping: 200 * time.Millisecond, Drain: time.Second,
	})
	responder := auth.NewResponder(nc, auth.TokenIsUser("all"), auth.ResponderConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	parts, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{tail.Run, cursors.Run, gateway.Run, responder.Run} {
		parts.Go(func() error { return part(ctx) })
	}
	for what, ready := range map[string]<-chan struct{}{"Tail": tail.Ready(), "gateway": gateway.Ready(), "responder": responder.Ready()} {
		select {
		case <-ready:
		case <-time.After(waitTimeout):
			t.Fatalf("the %s did not become ready", what)
		}
	}
	front := httptest.NewServer(gateway.Handler())
	t.Cleanup(func() {
		drainCtx, drained := context.WithTimeout(context.Background(), waitTimeout)
		defer drained()
		if err := gateway.Drain(drainCtx, nil); err != nil {
			t.Error(err)
		}
		front.Close()
		cancel()
		if err := parts.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &system{nc: nc, url: "ws" + strings.TrimPrefix(front.URL, "http"), log: &verify.Log{}}
}

func (w *system) publisher(t *testing.T, name string) *verify.Publisher {
	t.Helper()
	p, err := verify.NewPublisher(w.log, w.nc, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// publishTo publishes one notification to each user in turn.
func publishTo(t *testing.T, p *verify.Publisher, users ...string) {
	t.Helper()
	for _, user := range users {
		if err := p.User(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
}

// start creates a client and runs it until the test ends or stop is called.
func (w *system) start(t *testing.T, cfg verify.ClientConfig) (c *verify.Client, stop func()) {
	t.Helper()
	if cfg.URLs == nil {
		cfg.URLs = []string{w.url}
	}
	cfg.Topics = append(cfg.Topics, "all")
	c = verify.NewClient(w.log, cfg)
	return c, run(t, c)
}

// run runs a client until the test ends or stop is called.
func run(t *testing.T, c *verify.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// live waits until all clients are live.
func live(t *testing.T, clients ...*verify.Client) {
	t.Helper()
	streamstest.Eventually(t, waitTimeout, func() error {
		for _, c := range clients {
			if !c.Live() {
				return errors.New("a client is not live")
			}
		}
		return nil
	})
}

// passes waits until nothing is missing, and then checks that there are no violations.
func (w *system) passes(t *testing.T) {
	t.Helper()
	streamstest.Eventually(t, waitTimeout, w.log.Missing)
	if err := w.log.Check(); err != nil {
		t.Fatal(err)
	}
	t.Log(w.log.Stats())
}

// finds waits until Check finds a violation of the given kind that contains the text.
func (w *system) finds(t *testing.T, kind, text string) {
	t.Helper()
	streamstest.Eventually(t, waitTimeout, func() error {
		err := w.log.Check()
		if err == nil {
			return errors.New("no violation was found")
		}
		for line := range strings.Lines(err.Error()) {
			if strings.HasPrefix(line, kind+": ") && strings.Contains(line, text) {
				return nil
			}
		}
		return err
	})
}
