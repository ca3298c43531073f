package streamstest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// config holds the options of a server. It is passed to the child process as JSON.
type config struct {
	Dir          string
	Port         int
	SyncAlways   bool
	MaxStore     int64
	MaxConsumers int
	NoJetStream  bool
	Text         string
	RouteProxies bool
	Node         *member // nil: not part of a cluster
}

// member is the cluster configuration of one server.
type member struct {
	Name    string
	Port    int
	Routes  []string // URLs of other nodes
	Proxied bool
}

// An Option is an option of Run, RunProcess and RunCluster.
type Option func(*config)

// WithDir keeps the store in dir instead of a new temporary directory.
func WithDir(dir string) Option { return func(c *config) { c.Dir = dir } }

// WithPort makes the server listen on port instead of a random one.
func WithPort(port int) Option { return func(c *config) { c.Port = port } }

// WithSyncAlways makes the server fsync before it acknowledges a publish.
func WithSyncAlways() Option { return func(c *config) { c.SyncAlways = true } }

// WithMaxStore limits the bytes on disk of all streams together.
func WithMaxStore(bytes int64) Option { return func(c *config) { c.MaxStore = bytes } }

// WithDefaultMaxConsumers sets the limit of consumers for streams that do not set one. The server's default is 1,000;
// -1 is no limit.
func WithDefaultMaxConsumers(n int) Option { return func(c *config) { c.MaxConsumers = n } }

// WithoutJetStream runs a server without JetStream.
func WithoutJetStream() Option { return func(c *config) { c.NoJetStream = true } }

// WithConfig applies the text of a nats-server configuration file, for example with accounts and permissions. The
// address, the store directory and all other options override it.
func WithConfig(text string) Option { return func(c *config) { c.Text = text } }

// WithRouteProxies puts a Proxy between each pair of nodes in a cluster, so that tests can separate them.
func WithRouteProxies() Option { return func(c *config) { c.RouteProxies = true } }

func newConfig(tb testing.TB, opts []Option) config {
	tb.Helper()
	var c config
	for _, opt := range opts {
		opt(&c)
	}
	if c.Dir == "" {
		c.Dir = tb.TempDir()
	}
	if c.Port == 0 {
		c.Port = FreePort(tb)
	}
	return c
}

func (c config) options() (*server.Options, error) {
	o := &server.Options{}
	if c.Text != "" {
		if err := o.ProcessConfigString(c.Text); err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	o.Host, o.Port = "127.0.0.1", c.Port
	o.NoSigs = true
	o.JetStream = !c.NoJetStream
	o.StoreDir = c.Dir
	o.DisableJetStreamBanner = true
	if c.SyncAlways {
		o.SyncAlways = true
	}
	if c.MaxStore != 0 {
		o.JetStreamMaxStore = c.MaxStore
	}
	if c.MaxConsumers != 0 {
		o.JetStreamLimits.DefaultMaxConsumers = c.MaxConsumers
	}
	if n := c.Node; n != nil {
		o.ServerName = n.Name
		o.Cluster.Name, o.Cluster.Host, o.Cluster.Port = "C", "127.0.0.1", n.Port
		o.Routes = server.RoutesFromStr(strings.Join(n.Routes, ","))
		if n.Proxied {
			o.Cluster.Advertise = loopback(1) // so that nodes do not learn addresses that bypass the proxies
		}
	}
	return o, nil
}
