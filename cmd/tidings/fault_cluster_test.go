//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// clusterFaults are injected one after another with the same gateways. The cluster must have recovered when a fault function returns.
var clusterFaults = []struct {
	name  string
	short bool // it is soon over
	fault func(r *region)
}{
	{"the leader steps down, again and again", true, func(r *region) {
		for range streamstest.Either(2, 30) {
			r.cluster.StepDown(streams.DefaultName)
			r.goesOn(10)
		}
	}},
	{"a gateway is killed while a node is down", true, func(r *region) {
		down := r.cluster.Followers(streams.DefaultName)[0]
		r.spare(down)
		takeDown(r.cluster.Node(down))
		r.gateways[0].kill()
		r.goesOn(50)
		r.gateways[0].start()
		r.goesOn(50)
		r.cluster.Node(down).Restart()
	}},
	{"the leader is killed, and a gateway with it", false, func(r *region) {
		leader := r.cluster.Node(r.cluster.StreamLeader(streams.DefaultName))
		leader.Kill()
		r.gateways[1].kill()
		r.goesOn(50)
		leader.Restart()
		r.gateways[1].start()
	}},
	{"all nodes restart, one after another", false, func(r *region) {
		for _, node := range r.cluster.Nodes() {
			node.Stop()
			r.goesOn(50)
			node.Restart()
			r.settle()
		}
	}},
	{"all nodes are killed at once", false, func(r *region) {
		for _, node := range r.cluster.Nodes() {
			node.Kill()
		}
		r.cluster.Start()
	}},
	{"all nodes are killed at once, and all gateways", false, func(r *region) {
		for _, node := range r.cluster.Nodes() {
			node.Kill()
		}
		for _, g := range r.gateways {
			g.kill()
		}
		r.cluster.Start()
		for _, g := range r.gateways {
			g.start()
		}
	}},
}

// Users are with two gateways, and publishers go on, while a cluster fails in every way. Who makes a durable says how often it is
// there: in the short test one gateway says once, the other thrice.
func TestGatewaysOnAClusterThatFails(t *testing.T) {
	t.Parallel() // in long runs too: it mostly waits for elections
	for _, replicas := range streamstest.Either([][]string{{"1", "3"}}, [][]string{{"1", "1"}, {"3", "3"}}) {
		t.Run("positions in "+replicas[0]+" and "+replicas[1], func(t *testing.T) {
			t.Parallel()
			r := newRegion(t)
			for _, n := range replicas {
				r.gateway("--replicas", "3", "--cursor-replicas", n)
			}
			first := []int{r.gateways[0].pid(), r.gateways[1].pid()}
			before, err := verify.Measure(t.Context(), r.nc, first...)
			if err != nil {
				t.Fatal(err)
			}
			users, clients := r.everyKind(r.urls...)
			// All that is stored is read again at each start, by some.
			r.publish(time.Duration(streamstest.Either(5, 20))*time.Millisecond, users)
			r.publish(time.Duration(streamstest.Either(7, 30))*time.Millisecond, users)
			r.live(clients...)
			for _, f := range clusterFaults {
				if !f.short && !streamstest.Long() {
					continue
				}
				began := time.Now()
				f.fault(r)
				r.settle()
				r.live(clients...)
				r.goesOn(20)
				t.Logf("%s: %s; %s", f.name, time.Since(began).Round(10*time.Millisecond), r.log.Stats())
			}
			if streamstest.Long() { // durables elect their leaders too, each on its own
				r.holdsPositions([]string{"keeps", "forgets"}, []*verify.Client{clients[0], clients[3]})
			}
			r.passes()
			if streamstest.Long() {
				for i, g := range r.gateways {
					before.Files[g.pid()] = before.Files[first[i]]
				}
				r.waitForResources(before, r.gateways...)
			}
		})
	}
}
