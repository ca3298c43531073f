package streamstest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	c := RunCluster(t, 3, WithRouteProxies())
	js := c.JetStream(t)
	_, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	c.SettleStream("S")
	publish := func() {
		t.Helper()
		Eventually(t, electWithin, func() error {
			_, err := js.Publish(testContext(t), "s.1", nil)
			return err
		})
	}
	publish()
	leader, followers := c.StreamLeader("S"), c.Followers("S")
	if len(followers) != 2 || slices.Contains(followers, leader) {
		t.Fatalf("%d leads, %v follow", leader, followers)
	}

	// A node that was killed catches up after its restart.
	c.Node(followers[0]).Kill()
	publish()
	c.Node(followers[0]).Restart()
	c.SettleStream("S")
	c.StepDown("S")
	if now := c.StreamLeader("S"); now == leader {
		t.Errorf("node %d still leads", now)
	}
	publish()
	if info, err := js.Stream(testContext(t), "S"); err != nil || info.CachedInfo().State.Msgs < 3 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestClusterWithoutProxies(t *testing.T) {
	t.Parallel()
	c := RunCluster(t, 3)
	before := c.MetaLeader()
	c.StepDownMeta()
	Eventually(t, electWithin, func() error {
		if now := c.MetaLeader(); now == before {
			return fmt.Errorf("node %d still leads", now)
		}
		return nil
	})
	if nodes := c.Nodes(before); len(nodes) != c.Size()-1 {
		t.Errorf("%d other nodes, want %d", len(nodes), c.Size()-1)
	}
}
