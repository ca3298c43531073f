package streams_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// publishTopics fills a stream with messages to so many topics and users in turn, and returns a gateway that holds next to none of them.
func publishTopics(t testing.TB, messages, topics int) *gateway {
	t.Helper()
	nc := streamstest.Run(t).Connect(t)
	g := open(t, nc, streams.Config{MaxMsgsPerSubject: -1})
	var publishers errgroup.Group
	publishers.SetLimit(64)
	for i := range messages {
		publishers.Go(func() (err error) {
			n := streams.Notification{Data: []byte("x")}
			if i%4 == 0 {
				_, err = g.pub.Topic(t.Context(), fmt.Sprint(i/4%topics), n)
			} else {
				_, err = g.pub.User(t.Context(), fmt.Sprint(i%1000), n)
			}
			return err
		})
	}
	if err := publishers.Wait(); err != nil {
		t.Fatal(err)
	}
	return run(t, nc, streams.Config{}, streams.TailConfig{MaxBytes: 1000})
}

// subscribed is what a user reads who has so many topics.
func subscribed(t testing.TB, user string, topics int) []streams.Source {
	sources := []streams.Source{{Subject: userSubject(t, user)}}
	for i := range topics {
		sources = append(sources, streams.Source{Subject: topicSubject(t, fmt.Sprint(i))})
	}
	return sources
}

// requests counts those for messages, from now on.
func (g *gateway) requests() *atomic.Int64 {
	var n atomic.Int64
	tap, err := g.nc.Subscribe("$JS.API.DIRECT.GET."+g.stream.Name(), func(*nats.Msg) { n.Add(1) })
	if err == nil {
		err = g.nc.Flush()
	}
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { _ = tap.Unsubscribe() })
	return &n
}

// Of a thousand topics those that have nothing to read cost next to nothing, and many that have are read as one.
func TestAReaderOfManyTopics(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ messages, active, most int }{
		"a few are active":   {1000, 3, 4 + 4 + 3},
		"dozens are active":  {1000, 50, 4 + 51 + 50},
		"most are active":    {1600, 400, 4 + 10},
		"none of it is read": {3, 1, 4 + 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := publishTopics(t, c.messages, c.active)
			sources := subscribed(t, "1", 1000)
			all := of(g.stored(0), 0, sources)
			r := g.reader(0, sources...)
			n := g.requests()
			if got := frames(g.read(r)); !slices.Equal(got, all) {
				t.Errorf("read %d messages, the stream has %d", len(got), len(all))
			}
			if err := g.nc.Flush(); err != nil {
				t.Fatal(err)
			}
			if n := n.Load(); n > int64(c.most) {
				t.Errorf("%d requests, want at most %d", n, c.most)
			}
		})
	}
}

// Readers of very many topics take turns with others. Counted in requests to NATS, nobody waits for all that they read.
func TestNobodyWaitsForReadersOfManyTopics(t *testing.T) {
	t.Parallel()
	const heavy, topics = 16, 60 // all are active, and too few to scan
	g := publishTopics(t, 4*topics*2, topics)
	g.tail = streams.NewTail(g.stream, streams.TailConfig{Encode: encode, MaxBytes: 1000})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.tail.Run(ctx) }()
	<-g.tail.Ready()
	mark, n := g.mark(), g.requests()
	stop() // until all are waiting
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var all errgroup.Group
	var made [heavy + 1]int64 // until each has read all
	for i := range made {
		sources := subscribed(t, fmt.Sprint("heavy ", i), topics)
		if i == heavy {
			sources = sources[:1]
		}
		r, err := g.tail.Reader(mark, 0, sources)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() error {
			defer r.Close()
			_, err := r.Read(testContext(t, patience), nil, 10_000)
			made[i] = n.Load()
			return err
		})
		streamstest.Eventually(t, patience, func() error {
			if waiting := g.tail.Stats().Waiting; waiting <= i {
				return fmt.Errorf("%d are waiting", waiting)
			}
			return nil
		})
	}
	start(t, g.tail.Run)
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	if light, total := made[heavy], slices.Max(made[:]); light > total/2 {
		t.Errorf("one that reads a single subject had to wait for %d of %d requests", light, total)
	}
}
