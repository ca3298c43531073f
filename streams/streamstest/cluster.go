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

// electWithin is how long a cluster may take for what an election holds up: the server's own timeouts are 4 to 9 s, each time that
// nobody wins.
const electWithin = time.Minute

// clusterAccounts is for the tests' own questions; everybody else is the global account, without a password.
const clusterAccounts = `accounts { $SYS { users: [ { user: sys, password: sys } ] } }`

// A Cluster is some nats-servers, each in a process of its own, that replicate streams among them.
type Cluster struct {
	tb     testing.TB
	nodes  []*Process
	routes [][]*Proxy // by the higher node, then the lower; nil: they reach each other directly
	app    *nats.Conn // as anybody
	sys    *nats.Conn // as the system account
}

// RunCluster starts a cluster, with the options of Run for each node, and waits until it has a leader whom all others follow.
// TestMain must call Main. A node that is down comes again with its Restart.
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
			case cfg.RouteProxies && j < i: // one asks the other, or there would be two ways
				proxy := RunProxy(tb, target)
				proxies = append(proxies, proxy)
				cfg.Node.Routes = append(cfg.Node.Routes, proxy.URL())
			}
		}
		c.nodes, c.routes = append(c.nodes, newProcess(tb, cfg)), append(c.routes, proxies)
	}
	proxies := slices.Concat(c.routes...)
	for _, proxy := range proxies { // or those that start first are refused, and wait
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

// Start starts all nodes that do not run, together.
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

// URLs are those of all nodes, for nats.Connect.
func (c *Cluster) URLs() string {
	var urls []string
	for _, p := range c.nodes {
		urls = append(urls, p.URL())
	}
	return strings.Join(urls, ",")
}

// Connect returns a connection to any node, and to another when that is gone, or hangs for 3 s, for ever.
func (c *Cluster) Connect(tb testing.TB, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	return Connect(tb, c.URLs(), append([]nats.Option{nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2)}, opts...)...)
}

// JetStream is that of a new connection.
func (c *Cluster) JetStream(tb testing.TB, opts ...nats.Option) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(c.Connect(tb, opts...))
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// Name is that of a node of a cluster.
func (p *Process) Name() string { return p.cfg.Node.Name }

// Size is the number of nodes.
func (c *Cluster) Size() int { return len(c.nodes) }

// Node is one of them.
func (c *Cluster) Node(i int) *Process { return c.nodes[i] }

// Nodes are all of them but some.
func (c *Cluster) Nodes(but ...int) (nodes []*Process) {
	for i, p := range c.nodes {
		if !slices.Contains(but, i) {
			nodes = append(nodes, p)
		}
	}
	return nodes
}

// Routes are the proxies between a node and the others, where the cluster runs WithRouteProxies.
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

// Between is the proxy between two nodes, where the cluster runs WithRouteProxies.
func (c *Cluster) Between(i, j int) *Proxy { return c.routes[max(i, j)][min(i, j)] }
