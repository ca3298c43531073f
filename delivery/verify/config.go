package verify

import (
	"cmp"
	"context"
	"net"
	"time"
)

// ClientConfig says who a Client is. Zero fields mean the default where one is given.
type ClientConfig struct {
	Name   string   // in what Check says: the user
	User   string   // whom the token admits
	Topics []string // that the token grants
	Device string
	Token  string   // the user's name
	URLs   []string // such as ws://127.0.0.1:8080, tried in turn

	// Forget makes it a client that keeps no position: it never says where it was, and starts at its cursor.
	Forget  bool
	Ack     AckPolicy
	Backoff time.Duration // between connects, at most: 50 ms

	// Dial makes the connections, such as through a proxy.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// AckPolicy says which messages a Client acknowledges.
type AckPolicy int

const (
	AckEach      AckPolicy = iota // as it comes
	AckSometimes                  // one in four, by chance
	AckNever
)

func (cfg ClientConfig) withDefaults() ClientConfig {
	cfg.Name = cmp.Or(cfg.Name, cfg.User)
	cfg.Token = cmp.Or(cfg.Token, cfg.User)
	cfg.Backoff = cmp.Or(cfg.Backoff, 50*time.Millisecond)
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	return cfg
}
