package streamstest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// config crosses to the child process as JSON.
type config struct {
	Dir          string
	Port         int
	SyncAlways   bool
	MaxStore     int64
	MaxConsumers int
	NoJetStream  bool
	Text         string
	RouteProxies bool
	Node         *member // of a cluster
}

// member is what a server knows of its cluster.
type member struct {
	Name    string
	Port    int
	Routes  []string // URLs of the others
	Proxied bool
}

// An Option of Run and RunProcess.
type Option func(*config)

// WithDir keeps the store in dir instead of a fresh directory.
func WithDir(dir string) Option { return func(c *config) { c.Dir = dir } }

// WithPort listens on port instead of a random one.
func WithPort(port int) Option { return func(c *config) { c.Port = port } }

// WithSyncAlways makes the server fsync before it acknowledges a publish.
func WithSyncAlways() Option { return func(c *config) { c.SyncAlways = true } }

// WithMaxStore limits the bytes that all streams together may hold on disk.
func WithMaxStore(bytes int64) Option { return func(c *config) { c.MaxStore = bytes } }

// WithDefaultMaxConsumers sets how many consumers a stream may have that does not say so itself. The server's own
// default is 1,000; -1 is no limit.
func WithDefaultMaxConsumers(n int) Option { return func(c *config) { c.MaxConsumers = n } }

// WithoutJetStream runs a server that stores nothing.
func WithoutJetStream() Option { return func(c *config) { c.NoJetStream = true } }

// WithConfig starts from the text of a nats-server configuration file, for accounts and permissions. The address, the
// store directory and the other options given win over it.
func WithConfig(text string) Option { return func(c *config) { c.Text = text } }

// WithRouteProxies puts a Proxy between any two nodes of a cluster, so that they can be separated.
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
			o.Cluster.Advertise = loopback(1) // so that nobody learns of a way around the proxies
		}
	}
	return o, nil
}
