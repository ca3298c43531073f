package streamstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Settle waits until all nodes follow one meta leader and are up to date.
func (c *Cluster) Settle() {
	c.tb.Helper()
	Eventually(c.tb, electWithin, func() error {
		_, err := c.metaLeader()
		return err
	})
}

// MetaLeader waits until the cluster has a meta leader and returns its index. The meta leader decides which streams and
// consumers exist.
func (c *Cluster) MetaLeader() (node int) {
	c.tb.Helper()
	Eventually(c.tb, electWithin, func() (err error) {
		node, err = c.metaLeader()
		return err
	})
	return node
}

type metaCluster struct {
	Leader   string
	Replicas []struct {
		Name    string
		Current bool
		Offline bool
	}
}

// metaLeader asks all nodes for their meta leader. It returns an error if a node does not answer, or if nodes disagree.
func (c *Cluster) metaLeader() (int, error) {
	leader := ""
	err := c.ask("JSZ", "", func(node string, data []byte) error {
		var reply struct {
			Meta *metaCluster `json:"meta_cluster"`
		}
		if err := json.Unmarshal(data, &reply); err != nil {
			return err
		}
		meta := reply.Meta
		switch {
		case meta == nil || meta.Leader == "":
			return fmt.Errorf("%s has no leader", node)
		case leader != "" && meta.Leader != leader:
			return fmt.Errorf("%s follows %s, not %s", node, meta.Leader, leader)
		}
		leader = meta.Leader
		if node != leader {
			return nil
		}
		if have := len(meta.Replicas) + 1; have != len(c.nodes) {
			return fmt.Errorf("%s leads %d nodes", leader, have)
		}
		for _, r := range meta.Replicas {
			if !r.Current || r.Offline {
				return fmt.Errorf("%s is not up to date", r.Name)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return c.named(leader)
}

// ask sends a monitoring request to all nodes and calls each with their replies. It returns an error if a node does not
// answer.
func (c *Cluster) ask(what, request string, each func(node string, data []byte) error) error {
	inbox := c.sys.NewInbox()
	sub, err := c.sys.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.sys.PublishRequest("$SYS.REQ.SERVER.PING."+what, inbox, []byte(request)); err != nil {
		return err
	}
	for answers := range c.nodes {
		msg, err := sub.NextMsg(time.Second)
		if err != nil {
			return fmt.Errorf("only %d of %d nodes answered: %w", answers, len(c.nodes), err)
		}
		var reply struct {
			Server struct{ Name string }
			Data   json.RawMessage
		}
		if err := json.Unmarshal(msg.Data, &reply); err != nil {
			return err
		}
		if err := each(reply.Server.Name, reply.Data); err != nil {
			return err
		}
	}
	return nil
}

// named returns the index of the node with the given name.
func (c *Cluster) named(name string) (int, error) {
	for i, p := range c.nodes {
		if p.cfg.Node.Name == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no node %q", name)
}

// StreamLeader waits until the stream has a leader and returns the index of its node.
func (c *Cluster) StreamLeader(stream string) (node int) {
	c.tb.Helper()
	Eventually(c.tb, electWithin, func() (err error) {
		node, err = c.streamLeader(stream, false)
		return err
	})
	return node
}

// Leaderless waits until no node answers as the leader of the stream.
func (c *Cluster) Leaderless(stream string) {
	c.tb.Helper()
	Eventually(c.tb, electWithin, func() error {
		if node, err := c.streamLeader(stream, false); err == nil {
			return fmt.Errorf("node %d leads", node)
		}
		return nil
	})
}

// Followers returns the nodes that do not lead the stream.
func (c *Cluster) Followers(stream string) (nodes []int) {
	c.tb.Helper()
	leader := c.StreamLeader(stream)
	for i := range c.nodes {
		if i != leader {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// Replicas returns the nodes that have a replica of the stream, including the leader.
func (c *Cluster) Replicas(stream string) map[int]bool {
	c.tb.Helper()
	has := map[int]bool{}
	Eventually(c.tb, electWithin, func() error {
		clear(has)
		info, err := c.streamInfo(stream)
		if err != nil {
			return err
		}
		names := []string{info.Leader}
		for _, r := range info.Replicas {
			names = append(names, r.Name)
		}
		for _, name := range names {
			i, err := c.named(name)
			if err != nil {
				return err
			}
			has[i] = true
		}
		return nil
	})
	return has
}

// SettleStream waits until all replicas of the stream are up to date with its leader.
func (c *Cluster) SettleStream(stream string) {
	c.tb.Helper()
	Eventually(c.tb, electWithin, func() error {
		_, err := c.streamLeader(stream, true)
		return err
	})
}

// SettleDirectGets waits until all replicas of the stream answer direct gets. A follower starts to answer them about 2
// s after it has become a follower. From then on, a node with a replica answers direct gets of its clients itself.
func (c *Cluster) SettleDirectGets(stream string) {
	c.tb.Helper()
	subject := "$JS.API.DIRECT.GET." + stream
	Eventually(c.tb, electWithin, func() error {
		has := c.Replicas(stream)
		return c.ask("SUBSZ", fmt.Sprintf(`{"subscriptions":true,"test":%q}`, subject), func(node string, data []byte) error {
			i, err := c.named(node)
			if err == nil && has[i] && !bytes.Contains(data, []byte(`"`+subject+`"`)) {
				err = fmt.Errorf("%s does not answer direct gets", node)
			}
			return err
		})
	})
}

// streamLeader returns the node that leads the stream. If current is set, all replicas must be up to date.
func (c *Cluster) streamLeader(stream string, current bool) (int, error) {
	info, err := c.streamInfo(stream)
	if err != nil {
		return 0, err
	}
	for _, r := range info.Replicas {
		if current && (!r.Current || r.Offline || r.Lag > 0) {
			return 0, fmt.Errorf("%s lags: %+v", r.Name, *r)
		}
	}
	return c.named(info.Leader)
}

// streamInfo asks the stream's leader for the state of its replicas.
func (c *Cluster) streamInfo(stream string) (*jetstream.ClusterInfo, error) {
	var reply struct {
		Error   *jetstream.APIError
		Cluster *jetstream.ClusterInfo
	}
	if err := c.api("$JS.API.STREAM.INFO."+stream, nil, &reply); err != nil {
		return nil, err
	}
	switch {
	case reply.Error != nil:
		return nil, reply.Error
	case reply.Cluster == nil || reply.Cluster.Leader == "":
		return nil, errors.New("the stream has no leader")
	}
	return reply.Cluster, nil
}

// StepDown makes the stream's leader step down, and returns once another node leads. It takes about 10 ms.
func (c *Cluster) StepDown(stream string) {
	c.tb.Helper()
	c.stepDown("$JS.API.STREAM.LEADER.STEPDOWN."+stream, func() (int, error) { return c.streamLeader(stream, false) })
}

// StepDownMeta makes the meta leader step down, and returns once another node leads.
func (c *Cluster) StepDownMeta() {
	c.tb.Helper()
	c.stepDown("$JS.API.META.LEADER.STEPDOWN", c.metaLeader)
}

func (c *Cluster) stepDown(subject string, leader func() (int, error)) {
	c.tb.Helper()
	old := -1
	Eventually(c.tb, electWithin, func() error {
		now, err := leader()
		switch {
		case err != nil:
			return err
		case old >= 0 && now != old:
			return nil
		}
		old = now
		var reply struct {
			Error *jetstream.APIError
		}
		if err := c.api(subject, nil, &reply); err != nil {
			return err
		}
		if reply.Error != nil {
			return reply.Error
		}
		return fmt.Errorf("node %d still leads", now)
	})
}

// RemovePeer removes a node that does not return from the cluster. Streams with a replica on that node get a replica on
// another one; a stream that had its only replica there is empty afterwards.
func (c *Cluster) RemovePeer(node int) {
	c.tb.Helper()
	request := fmt.Appendf(nil, `{"peer":%q}`, c.nodes[node].cfg.Node.Name)
	Eventually(c.tb, electWithin, func() error {
		var reply struct {
			Error *jetstream.APIError
		}
		if err := c.api("$JS.API.SERVER.REMOVE", request, &reply); err != nil {
			return err
		}
		if reply.Error != nil {
			return reply.Error
		}
		return nil
	})
}

// api sends an API request. Requests about the cluster itself use the system account, all others the global account.
func (c *Cluster) api(subject string, request []byte, reply any) error {
	nc := c.app
	if strings.HasPrefix(subject, "$JS.API.META.") || strings.HasPrefix(subject, "$JS.API.SERVER.") {
		nc = c.sys
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	msg, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Data: request})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return json.Unmarshal(msg.Data, reply)
}
