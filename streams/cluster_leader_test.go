package streams_test

import (
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// While most replicas are away, the leader keeps what was published in mind, and refuses the next attempt with the same id.
func TestAPublishWaitsForItsQuorum(t *testing.T) {
	streamstest.BesideOthers(t)
	c := streamstest.RunCluster(t, 3)
	g := open(t, c.Connect(t), replicated)
	leader := c.StreamLeader(streams.DefaultName)
	pub, err := streams.NewPublisher(c.Node(leader).Connect(t), streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes(leader) {
		n.Pause()
	}
	done := make(chan error, 1)
	go func() {
		_, err := pub.User(testContext(t, clusterPatience), "a", streams.Notification{ID: "1", Data: []byte("1")})
		done <- err
	}()
	select {
	case err = <-done:
		t.Errorf("published without a quorum: %v", err)
		done <- err
	case <-time.After(2500 * time.Millisecond): // two attempts
	}
	for _, n := range c.Nodes(leader) {
		n.Resume()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.SettleStream(streams.DefaultName)
	if stored := g.stored(0); len(stored) != 1 {
		t.Errorf("stored: %q", stored)
	}
}

func TestLeaderStepsDown(t *testing.T) {
	streamstest.BesideOthers(t)
	c := streamstest.RunCluster(t, 3)
	g := run(t, c.Connect(t), replicated, streams.TailConfig{MaxBytes: 64 << 10})
	l := newLoad(g, c, 3)
	each, all := l.watch(l.users[0]), l.watch(l.users...)
	l.readCold(l.users...)
	for range streamstest.Either(2, 30) {
		c.StepDown(g.stream.Name())
		l.progress(20)
	}
	l.finish(each, all)
}
