//go:build linux

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// With --cursor-replicas 1 a position is on one node. While that node is down, a connected user of it still receives everything, but cannot
// reconnect; users whose positions are on other nodes can. If the node never returns, its positions are lost, but no notifications: once the
// node is removed from the cluster, those users get all that the stream holds.
func TestAPositionOnANodeThatIsDown(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	for range 2 {
		r.gateway("--replicas", "3", "--cursor-replicas", "1")
	}
	ann, _ := r.client(verify.ClientConfig{User: "ann", URLs: r.urls, Forget: true})
	r.live(ann)
	home := r.homes("ann", 1)[0]
	ben, bens := r.elsewhere(home)
	users, node := []string{"ann", bens}, r.cluster.Node(home)
	r.publish(10*time.Millisecond, users)
	r.goesOn(20)
	r.spare(home)

	takeDown(node)
	r.each(users)
	r.goesOn(20)
	r.comesBack(ben)
	r.refused(ann)
	r.each(users)
	node.Restart()
	r.live(ann)
	r.holdsPositions(users, []*verify.Client{ann, ben})

	// The second time the node does not return.
	r.spare(home)
	takeDown(node)
	r.refused(ann)
	r.each(users)
	r.cluster.RemovePeer(home)
	r.live(ann)
	r.comesBack(ben)
	if streamstest.Long() { // the cluster takes some seconds until the new durables can be moved
		r.holdsPositions(users, []*verify.Client{ann, ben})
	}
	r.passes()
	if s := r.log.Stats(); s.Repeats == 0 {
		t.Errorf("who has no position any more is told everything again: %s", s)
	}
}

// elsewhere connects a user whose position is not on the given node.
func (r *region) elsewhere(than int) (c *verify.Client, user string) {
	r.t.Helper()
	for i := range 50 {
		user = fmt.Sprint("ben", i)
		c, leave := r.client(verify.ClientConfig{User: user, URLs: r.urls, Forget: true})
		r.live(c)
		if r.homes(user, 1)[0] != than {
			return c, user
		}
		c.Leave()
		leave()
	}
	r.t.Fatalf("all positions are on node %d", than)
	return nil, ""
}

// refused disconnects a client and waits until the gateway has rejected it several times, each time as unavailable with a time to retry.
func (r *region) refused(c *verify.Client) {
	r.t.Helper()
	before := r.log.Stats()
	c.Drop()
	streamstest.Eventually(r.t, longer, func() error {
		if now := r.log.Stats(); now.Closes[wire.CloseUnavailable] < before.Closes[wire.CloseUnavailable]+2 {
			return fmt.Errorf("it is not refused; %s", now)
		}
		return nil
	})
	if now := r.log.Stats(); now.Closes[wire.CloseInternal] > 0 || c.Live() {
		r.t.Errorf("refused in another way: %s", now)
	}
}

// A stream and its positions are scaled from one replica to three while a gateway serves it. Positions from before are still readable when the
// node that had the only copy goes down.
func TestAStreamIsScaledWhileItIsServed(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	r.gateway()
	users := many("user", 5)
	clients, _ := r.clients(users, verify.ClientConfig{URLs: r.urls, Ack: verify.AckSometimes, Forget: true})
	r.live(clients...)
	r.publish(2*time.Millisecond, users)
	r.publish(3*time.Millisecond, users)
	r.goesOn(100)
	old := r.cluster.StreamLeader(streams.DefaultName)
	if home := r.homes(users[0], 1)[0]; home != old {
		t.Errorf("of a stream on node %d a position is on node %d", old, home)
	}

	r.gateway("--replicas", "3")
	late, _ := r.clients(many("late", 3), verify.ClientConfig{URLs: r.urls[1:]})
	r.live(late...)
	r.goesOn(100)
	r.settle()
	if on := r.cluster.Replicas(streams.DefaultName); len(on) != 3 {
		t.Errorf("the stream is on the nodes %v", on)
	}
	for _, user := range append(many("late", 3), users...) {
		r.homes(user, 3)
	}
	if streamstest.Long() { // each position waits for an election of its own
		r.spare(old)
		r.cluster.Node(old).Kill()
		r.goesOn(100)
	}
	for _, c := range clients {
		r.comesBack(c)
	}
	r.holdsPositions(many("late", 3), late)
	r.passes()
}
