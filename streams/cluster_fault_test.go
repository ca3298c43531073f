package streams_test

import (
	"testing"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Faults of a cluster, one after another on the same stream. Each must be over when it returns.
var clusterFaults = []struct {
	name  string
	fault func(c *streamstest.Cluster, l *load)
}{
	{"a follower is killed", func(c *streamstest.Cluster, l *load) {
		n := c.Node(c.Followers(streams.DefaultName)[0])
		n.Kill()
		l.progress(20)
		n.Restart()
	}},
	{"the leader is killed", func(c *streamstest.Cluster, l *load) {
		n := c.Node(c.StreamLeader(streams.DefaultName))
		n.Kill()
		l.progress(20)
		n.Restart()
	}},
	{"all nodes restart, one after another", func(c *streamstest.Cluster, l *load) {
		for i := range c.Size() {
			c.Node(i).Stop()
			l.progress(20)
			c.Node(i).Restart()
			c.Settle()
			c.SettleStream(streams.DefaultName)
		}
	}},
	{"all nodes are killed", func(c *streamstest.Cluster, _ *load) {
		for _, n := range c.Nodes() {
			n.Kill()
		}
		c.Start()
	}},
	{"the leader is paused while others elect another", func(c *streamstest.Cluster, l *load) {
		n := c.Node(c.StreamLeader(streams.DefaultName))
		n.Pause()
		defer n.Resume()
		l.progress(20)
	}},
	{"most replicas hang until the leader gives up", func(c *streamstest.Cluster, _ *load) {
		for _, i := range c.Followers(streams.DefaultName) {
			c.Node(i).Pause()
			defer c.Node(i).Resume()
		}
		c.Leaderless(streams.DefaultName)
	}},
	{"the leader steps down", func(c *streamstest.Cluster, l *load) {
		for range 20 {
			c.StepDown(streams.DefaultName)
			l.progress(5)
		}
	}},
}

func TestNothingIsMissedWhereAClusterFails(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("takes minutes: TIDINGS_LONG=1")
	}
	c := streamstest.RunCluster(t, 3)
	open(t, c.Connect(t), replicated)
	for _, f := range clusterFaults {
		t.Run(f.name, func(t *testing.T) {
			g := run(t, c.Connect(t), replicated, streams.TailConfig{MaxBytes: 64 << 10})
			l := newLoad(g, c, 3)
			one, all := l.watch(l.users[0]), l.watch(l.users...)
			l.readCold(l.users...)
			l.progress(20)
			f.fault(c, l)
			c.Settle()
			c.SettleStream(streams.DefaultName)
			l.finish(one, all)
		})
	}
}
