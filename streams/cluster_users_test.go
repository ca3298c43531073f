package streams_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// In a cluster it is the leader of the cluster that counts consumers, and not the stream's: it refuses the next after 1,000 too, until
// a gateway has seen to the stream.
func TestManyUsersAttachInACluster(t *testing.T) {
	streamstest.BesideOthers(t)
	c := streamstest.RunCluster(t, 3)
	cfg := replicated
	cfg.CursorReplicas = 1
	g := open(t, c.Connect(t), cfg)
	unlimited := g.jetstream().CachedInfo().Config
	unlimited.MaxConsumers = -1
	if _, err := g.js.UpdateStream(testContext(t, patience), unlimited); err != nil {
		t.Fatal(err)
	}
	g.small(1000)
	_, err := g.js.CreateConsumer(testContext(t, patience), streams.DefaultName, jetstream.ConsumerConfig{Durable: "more"})
	if !errors.Is(err, jetstream.ErrMaximumConsumersLimit) {
		t.Errorf("consumer 1,001 of a stream that says nothing of them: %v", err)
	}

	g = run(t, c.Connect(t), cfg, streams.TailConfig{})
	cursors := streams.NewCursors(g.tail, streams.CursorsConfig{})
	for i := range 10 {
		if _, err := cursors.Attach(testContext(t, patience), streams.CursorID{User: fmt.Sprint(i)}, g.mark(), 0); err != nil {
			t.Error(err)
		}
	}
}

// small adds so many consumers to the stream that cost little, and count.
func (g *gateway) small(n int) {
	g.Helper()
	var all errgroup.Group
	all.SetLimit(64)
	for i := range n {
		all.Go(func() error {
			_, err := g.js.CreateConsumer(testContext(g, 3*patience), streams.DefaultName, jetstream.ConsumerConfig{
				Durable: fmt.Sprint("small", i), Replicas: 1, MemoryStorage: true,
			})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		g.Fatal(err)
	}
}
