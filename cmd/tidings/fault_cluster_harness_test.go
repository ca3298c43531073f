//go:build linux

package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// region is a town whose gateways use a NATS cluster.
type region struct {
	*town
	cluster  *streamstest.Cluster
	js       jetstream.JetStream
	gateways []*gateway
	urls     []string // of the gateways
}

func newRegion(t *testing.T) *region {
	t.Helper()
	c := streamstest.RunCluster(t, 3)
	r := &region{town: newTown(t, c.URLs()), cluster: c, js: c.JetStream(t)}
	for _, node := range c.Nodes() { // each must know the responder's subscription, or a gateway there rejects its first clients
		nc := streamstest.Connect(t, node.URL(), nats.IgnoreDiscoveredServers())
		streamstest.Eventually(t, longer, func() error {
			_, err := nc.Request(auth.DefaultSubject, []byte("anybody"), longer)
			return err
		})
		nc.Close()
	}
	return r
}

// gateway starts another gateway, with these flags in addition to the common ones.
func (r *region) gateway(flags ...string) *gateway {
	r.t.Helper()
	g := runGateway(r.t, append([]string{"--nats", r.cluster.URLs(), "--commit-interval", "50ms", "--max-msgs-per-user", "-1"}, flags...)...)
	r.gateways, r.urls = append(r.gateways, g), append(r.urls, g.url())
	return g
}

// goesOn waits until that many more publications were acknowledged, and clients have received that many more messages.
func (r *region) goesOn(more int) {
	r.t.Helper()
	began := r.log.Stats()
	streamstest.Eventually(r.t, longer, func() error {
		now := r.log.Stats()
		if now.Acknowledged < began.Acknowledged+more || now.Messages < began.Messages+more {
			return fmt.Errorf("%d acknowledged and %d received, want %d more of each; %s",
				now.Acknowledged-began.Acknowledged, now.Messages-began.Messages, more, now)
		}
		return nil
	})
}

// settle waits until all nodes run and are up to date.
func (r *region) settle() {
	r.t.Helper()
	r.cluster.Settle()
	r.cluster.SettleStream(streams.DefaultName)
}

// spare moves all leaders away from a node, so that no election is needed when it stops.
func (r *region) spare(node int) {
	r.t.Helper()
	for r.cluster.MetaLeader() == node {
		r.cluster.StepDownMeta()
	}
	for r.cluster.StreamLeader(streams.DefaultName) == node {
		r.cluster.StepDown(streams.DefaultName)
	}
}

// takeDown kills a node, or stops it where the test is to be short: after a kill everything that it led waits for an election, which
// takes some seconds.
func takeDown(node *streamstest.Process) { streamstest.Either(node.Stop, node.Kill)() }

// position returns the durable consumer that holds a user's position.
func (r *region) position(user string) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), longer)
	defer cancel()
	consumer, err := r.js.Consumer(ctx, streams.DefaultName, "user-"+user)
	if err != nil {
		return nil, err
	}
	return consumer.CachedInfo(), nil
}

// homes waits until a user's position has that many up-to-date replicas, and returns their nodes.
func (r *region) homes(user string, copies int) (nodes []int) {
	r.t.Helper()
	streamstest.Eventually(r.t, longer, func() error {
		nodes = nil
		info, err := r.position(user)
		if err != nil {
			return err
		}
		if info.Cluster == nil {
			return fmt.Errorf("the position of %s is on its way", user)
		}
		for _, replica := range append(info.Cluster.Replicas, &jetstream.PeerInfo{Name: info.Cluster.Leader, Current: true}) {
			var node int
			if _, err := fmt.Sscanf(replica.Name, "n%d", &node); err != nil {
				return fmt.Errorf("the position of %s is on node %q: %w", user, replica.Name, err)
			}
			if !replica.Current {
				return fmt.Errorf("the position of %s lags on node %d", user, node)
			}
			nodes = append(nodes, node)
		}
		if len(nodes) != copies {
			return fmt.Errorf("the position of %s is on the nodes %v, and not on %d", user, nodes, copies)
		}
		return nil
	})
	return nodes
}

// comesBack waits until a live client has lost its connection and is live again.
func (r *region) comesBack(c *verify.Client) {
	r.t.Helper()
	before := r.log.Stats().Live
	c.Drop()
	streamstest.Eventually(r.t, longer, func() error {
		if now := r.log.Stats(); now.Live <= before || !c.Live() {
			return fmt.Errorf("it is not live again; %s", now)
		}
		return nil
	})
}

// holdsPositions ends the publishers, has users acknowledge something more, each by one client, and waits until their positions say
// so. It asks for each: a list of all waits for nodes that are down.
func (r *region) holdsPositions(users []string, clients []*verify.Client) {
	r.t.Helper()
	r.quiet()
	r.complete()
	r.each(users)
	r.complete()
	for i, user := range users {
		streamstest.Eventually(r.t, longer, func() error {
			info, err := r.position(user)
			if err != nil {
				return err
			}
			acked, _ := clients[i].Acknowledged()
			_, reached := clients[i].Position()
			if at := info.AckFloor.Stream; at < acked || at > reached {
				return fmt.Errorf("%s acknowledged %d, has everything to %d, and is at %d", user, acked, reached, at)
			}
			return nil
		})
	}
}
