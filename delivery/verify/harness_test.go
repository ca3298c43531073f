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

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// town is a NATS server, a gateway, a responder that takes the token as the user and grants the topic "all", and a Log.
type town struct {
	nc  *nats.Conn
	url string // of the gateway
	log *verify.Log
}

func newTown(t *testing.T) *town {
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
	life, end := context.WithCancel(context.Background())
	parts, life := errgroup.WithContext(life)
	for _, part := range []func(context.Context) error{tail.Run, cursors.Run, gateway.Run, responder.Run} {
		parts.Go(func() error { return part(life) })
	}
	for what, ready := range map[string]<-chan struct{}{"Tail": tail.Ready(), "gateway": gateway.Ready(), "responder": responder.Ready()} {
		select {
		case <-ready:
		case <-time.After(patience):
			t.Fatalf("the %s does not get ready", what)
		}
	}
	front := httptest.NewServer(gateway.Handler())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := gateway.Drain(ctx, nil); err != nil {
			t.Error(err)
		}
		front.Close()
		end()
		if err := parts.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &town{nc: nc, url: "ws" + strings.TrimPrefix(front.URL, "http"), log: &verify.Log{}}
}

func (w *town) publisher(t *testing.T, name string) *verify.Publisher {
	t.Helper()
	p, err := verify.NewPublisher(w.log, w.nc, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// to publishes one notification to each user in turn.
func to(t *testing.T, p *verify.Publisher, users ...string) {
	t.Helper()
	for _, user := range users {
		if err := p.User(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs a client of the user until the test ends, or stop is called.
func (w *town) start(t *testing.T, cfg verify.ClientConfig) (c *verify.Client, stop func()) {
	t.Helper()
	if cfg.URLs == nil {
		cfg.URLs = []string{w.url}
	}
	cfg.Topics = append(cfg.Topics, "all")
	c = verify.NewClient(w.log, cfg)
	return c, run(t, c)
}

// run lets a client run until the test ends, or stop is called.
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

// live waits until the clients are.
func live(t *testing.T, clients ...*verify.Client) {
	t.Helper()
	streamstest.Eventually(t, patience, func() error {
		for _, c := range clients {
			if !c.Live() {
				return errors.New("a client is not live")
			}
		}
		return nil
	})
}

// passes waits until nothing is missing, and checks all.
func (w *town) passes(t *testing.T) {
	t.Helper()
	streamstest.Eventually(t, patience, w.log.Missing)
	if err := w.log.Check(); err != nil {
		t.Fatal(err)
	}
	t.Log(w.log.Stats())
}

// finds waits until Check finds a violation with this text, of that kind.
func (w *town) finds(t *testing.T, kind, text string) {
	t.Helper()
	streamstest.Eventually(t, patience, func() error {
		err := w.log.Check()
		if err == nil {
			return errors.New("nothing was found")
		}
		for line := range strings.Lines(err.Error()) {
			if strings.HasPrefix(line, kind+": ") && strings.Contains(line, text) {
				return nil
			}
		}
		return err
	})
}
