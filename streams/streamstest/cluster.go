package streamstest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// electWithin is the time limit for everything that may need an election. Each election round that has no winner takes
// 4 to 9 s, by the server's own timeouts.
const electWithin = time.Minute

// clusterAccounts defines a system account for the monitoring requests of this package. All other clients use the
// global account without credentials.
const clusterAccounts = `accounts { $SYS { users: [ { user: sys, password: sys } ] } }`

// A Cluster is a set of nats-servers, each in its own process, that replicate streams.
type Cluster struct {
	tb     testing.TB
	nodes  []*Process
	routes [][]*Proxy // indexed by the higher node, then the lower one; nil: no proxies
	app    *nats.Conn // in the global account
	sys    *nats.Conn // in the system account
}

// RunCluster starts a cluster, with the options of Run for each node, and waits until all nodes follow one leader.
// TestMain must call Main. A node that was stopped is started again with its Restart method.
func RunCluster(tb testing.TB, nodes int, opts ...Option) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	var ports, routePorts []int
	for range nodes {
		ports, routePorts = append(ports, FreePort(tb)), append(routePorts, FreePort(tb))
	}
	for i := range nodes {
		cfg := newConfig(tb, append([]Option{WithConfig(clusterAccounts), WithPort(ports[i])}, opts...))
		cfg.Node = &member{Name: fmt.Sprint("n", i), Port: routePorts[i], Proxied: cfg.RouteProxies}
		var proxies []*Proxy
		for j := range nodes {
			switch target := loopback(routePorts[j]); {
			case !cfg.RouteProxies && j != i:
				cfg.Node.Routes = append(cfg.Node.Routes, "nats://"+target)
			case cfg.RouteProxies && j < i: // only one node connects to the other, otherwise there would be two routes
				proxy := RunProxy(tb, target)
				proxies = append(proxies, proxy)
				cfg.Node.Routes = append(cfg.Node.Routes, proxy.URL())
			}
		}
		c.nodes, c.routes = append(c.nodes, newProcess(tb, cfg)), append(c.routes, proxies)
	}
	proxies := slices.Concat(c.routes...)
	for _, proxy := range proxies { // otherwise the nodes that start first are refused and wait before they try again
		proxy.Stall()
	}
	c.Start()
	for _, proxy := range proxies {
		proxy.Restore()
	}
	c.app, c.sys = c.Connect(tb), c.Connect(tb, nats.UserInfo("sys", "sys"))
	c.Settle()
	return c
}

// Start starts all stopped nodes concurrently.
func (c *Cluster) Start() {
	c.tb.Helper()
	failed := make([]error, len(c.nodes))
	var all sync.WaitGroup
	for i, p := range c.nodes {
		all.Go(func() { failed[i] = p.startIfDown() })
	}
	all.Wait()
	for i, err := range failed {
		if err != nil {
			c.tb.Fatalf("start node %d: %v\n%s", i, err, c.nodes[i].log)
		}
	}
}

// URLs returns the URLs of all nodes, separated by commas, for nats.Connect.
func (c *Cluster) URLs() string {
	var urls []string
	for _, p := range c.nodes {
		urls = append(urls, p.URL())
	}
	return strings.Join(urls, ",")
}

// Connect returns a connection to any node. If that node is down or does not answer for 3 s, the connection reconnects
// to another one, without a limit of attempts.
func (c *Cluster) Connect(tb testing.TB, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	return Connect(tb, c.URLs(), append([]nats.Option{nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2)}, opts...)...)
}

// JetStream returns a JetStream context with a new connection.
func (c *Cluster) JetStream(tb testing.TB, opts ...nats.Option) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(c.Connect(tb, opts...))
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// Name returns the server name of a cluster node.
func (p *Process) Name() string { return p.cfg.Node.Name }

// Size returns the number of nodes.
func (c *Cluster) Size() int { return len(c.nodes) }

// Node returns the node with index i.
func (c *Cluster) Node(i int) *Process { return c.nodes[i] }

// Nodes returns all nodes except those with the given indices.
func (c *Cluster) Nodes(but ...int) (nodes []*Process) {
	for i, p := range c.nodes {
		if !slices.Contains(but, i) {
			nodes = append(nodes, p)
		}
	}
	return nodes
}

// Routes returns the proxies between node i and the other nodes. The cluster must run WithRouteProxies.
func (c *Cluster) Routes(i int) (proxies []*Proxy) {
	for high, to := range c.routes {
		for low, proxy := range to {
			if high == i || low == i {
				proxies = append(proxies, proxy)
			}
		}
	}
	return proxies
}

// Between returns the proxy between two nodes. The cluster must run WithRouteProxies.
func (c *Cluster) Between(i, j int) *Proxy { return c.routes[max(i, j)][min(i, j)] }
