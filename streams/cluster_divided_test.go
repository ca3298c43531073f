package streams_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

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
