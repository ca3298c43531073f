package streams_test

import (
	"errors"
	"fmt"
	"slices"
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

// Of a position whose only node is down nobody can say anything, and nobody says that it was forgotten.
func TestUsersWhoseNodeIsDown(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("waits for what a node does not answer: TIDINGS_LONG=1")
	}
	c := streamstest.RunCluster(t, 3)
	cfg := replicated
	cfg.CursorReplicas = 1
	g := run(t, c.Connect(t), cfg, streams.TailConfig{})
	cursors := streams.NewCursors(g.tail, streams.CursorsConfig{})
	var all []string
	homes := map[string]string{}
	for ctx := testContext(t, patience); len(all) < 5; {
		user := fmt.Sprint("user", len(all))
		if _, err := cursors.Attach(ctx, streams.CursorID{User: user}, g.mark(), 0); err != nil {
			t.Fatal(err)
		}
		consumer, err := g.js.Consumer(ctx, streams.DefaultName, "user-"+user)
		if err != nil {
			t.Fatal(err)
		}
		homes[user], all = consumer.CachedInfo().Cluster.Leader, append(all, user)
	}
	listed := func() (users []string, err error) {
		cursors, err := g.stream.Users().List(testContext(t, patience))
		for _, c := range cursors {
			users = append(users, c.User)
		}
		return users, err
	}
	if users, err := listed(); err != nil || !slices.Equal(users, all) {
		t.Errorf("%q, %v", users, err)
	}
	down := slices.IndexFunc(c.Nodes(), func(n *streamstest.Process) bool { return n.Name() == homes[all[0]] })
	c.Node(down).Kill()
	var up []string
	for _, user := range all {
		if homes[user] != homes[all[0]] {
			up = append(up, user)
		}
	}
	streamstest.Eventually(t, clusterPatience, func() error { // it may have led the stream, or the cluster
		if users, err := listed(); !errors.Is(err, streams.ErrIncomplete) || !slices.Equal(users, up) {
			return fmt.Errorf("%q, %w", users, err)
		}
		return nil
	})
	if _, _, err := g.stream.Users().Forget(testContext(t, patience), all[0], false); !errors.Is(err, streams.ErrIncomplete) {
		t.Errorf("forgotten: %v", err)
	}
	c.Node(down).Restart()
	streamstest.Eventually(t, clusterPatience, func() error {
		if users, err := listed(); err != nil || !slices.Equal(users, all) {
			return fmt.Errorf("%q, %w", users, err)
		}
		return nil
	})
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
