package streams_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// divided is a cluster in which the leader of the stream can be cut off from the other replicas, while everybody else reaches both
// sides: a gateway at the node without a replica hears two leaders for a while. The Tail reads from the old one.
type divided struct {
	*streamstest.Cluster
	t       *testing.T
	g       *gateway
	leader  int
	outside int
}

func newDivided(t *testing.T, tail streams.TailConfig) *divided {
	t.Helper()
	d := &divided{Cluster: streamstest.RunCluster(t, 4, streamstest.WithRouteProxies()), t: t}
	open(t, d.Connect(t), replicated)
	has := d.Replicas(streams.DefaultName)
	for has[d.outside] {
		d.outside++
	}
	d.g = run(t, d.connect(), replicated, tail)
	for d.leader = d.StreamLeader(streams.DefaultName); d.leader != d.g.tailHost(); d.leader = d.StreamLeader(streams.DefaultName) {
		d.StepDown(streams.DefaultName)
	}
	return d
}

// connect is to the node that hears both sides.
func (d *divided) connect() *nats.Conn {
	d.t.Helper()
	return streamstest.Connect(d.t, d.Node(d.outside).URL(), nats.IgnoreDiscoveredServers())
}

func (d *divided) divide() {
	for i := range d.Size() {
		if i != d.leader && i != d.outside {
			d.Between(i, d.leader).Cut()
		}
	}
}

func (d *divided) heal() {
	for i := range d.Size() {
		if i != d.leader && i != d.outside {
			d.Between(i, d.leader).Restore()
		}
	}
}

// A leader that is cut off from its replicas says for up to 20 s what it has got, which is not all that was acknowledged.
func TestTwoLeadersAtOnce(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("takes minutes: TIDINGS_LONG=1")
	}
	d := newDivided(t, streams.TailConfig{MaxBytes: 64 << 10, Poll: 50 * time.Millisecond})
	l := newLoadOver(d.g, 3, d.connect)
	one, all := l.watch(l.users[0]), l.watch(l.users...)
	l.readCold(l.users...)
	l.progress(20)
	d.divide()
	for began := time.Now(); time.Since(began) < 30*time.Second; {
		l.progress(20)
	}
	d.heal()
	d.Settle()
	l.finish(one, all) // the old leader may be far from having what it missed
}

// The stream's last message was deleted, and it has a new leader beside which an old one might still answer: it takes a while to be
// sure that nothing comes any more, and nothing is taken for broken meanwhile.
func TestTheEndIsDeletedUnderANewLeader(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("waits until no old leader answers: TIDINGS_LONG=1")
	}
	c := streamstest.RunCluster(t, 3)
	g := open(t, c.Connect(t), replicated)
	g.publish("a", "1")
	if err := g.jetstream().DeleteMsg(testContext(t, patience), g.publish("a", "deleted")); err != nil {
		t.Fatal(err)
	}
	c.StepDown(streams.DefaultName)
	var log syncBuffer
	g.tail = streams.NewTail(g.stream, streams.TailConfig{Encode: encode, Logger: zerolog.New(&log)})
	start(t, g.tail.Run)
	select {
	case <-g.tail.Ready():
	case <-time.After(clusterPatience):
		t.Fatal("the tail does not get ready")
	}
	if strings.Contains(log.String(), "interrupted") {
		t.Errorf("it was taken for broken:\n%s", log.String())
	}
	g.wants(g.userReader(0, "a"), "1")
}
