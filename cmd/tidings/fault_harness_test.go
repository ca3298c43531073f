//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// The fault tests run `tidings gateway` in separate processes, which they kill, pause and stop while publishers publish and clients reconnect.
// Package verify checks the guarantees. The tests need Linux, since they pause processes and count their open files.

// longer is how long a fault test waits for something that must happen, on the slowest machine.
const longer = 2 * time.Minute

// town is the environment of gateways: a responder (a token is its user's name, and grants the topic "all" except to the quiet users),
// publishers, clients, and the Log of all events.
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
		user := strings.TrimPrefix(r.Token, streamstest.Canary)
		return auth.Identity{User: user, Topics: topicsOf(user)}, nil
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

// during calls run in a goroutine, until the test ends or stop is called.
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

// client runs a client until the test ends or stop is called.
func (w *town) client(cfg verify.ClientConfig) (c *verify.Client, stop func()) {
	cfg.Token, cfg.Topics = streamstest.Canary+cfg.User, topicsOf(cfg.User)
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

// publish starts a publisher that publishes to the users in turn, and to the topic after each round, until quiet is called.
func (w *town) publish(every time.Duration, users []string) {
	w.t.Helper()
	p := w.publisher()
	w.publishers = append(w.publishers, w.during(func(ctx context.Context) error {
		p.Run(ctx, every, users, []string{"all"})
		return nil
	}))
}

// quiet stops all publishers.
func (w *town) quiet() {
	for _, stop := range w.publishers {
		stop()
	}
	w.publishers = nil
}

// each publishes one notification to each user.
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

// live waits until the clients are live.
func (w *town) live(clients ...*verify.Client) {
	w.t.Helper()
	streamstest.Eventually(w.t, longer, func() error {
		if err := verify.Live(clients...); err != nil {
			return fmt.Errorf("%w; %s", err, w.log.Stats())
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

// complete waits until all clients have received everything.
func (w *town) complete() {
	w.t.Helper()
	streamstest.Eventually(w.t, longer, w.log.Missing)
}

// passes stops the publishers, waits until all clients have received everything, and checks all guarantees.
func (w *town) passes() {
	w.t.Helper()
	w.quiet()
	w.complete()
	if err := w.log.Check(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Log(w.log.Stats())
}

// many returns n names with the prefix.
func many(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", prefix, i+1))
	}
	return names
}
