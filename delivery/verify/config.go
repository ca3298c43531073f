package verify

import (
	"cmp"
	"context"
	"net"
	"time"
)

// ClientConfig configures a Client. User and URLs are required.
type ClientConfig struct {
	Name   string   // name in violations; default: User
	User   string   // the user of the token
	Topics []string // topics that the token grants
	Device string
	Token  string   // default: User
	URLs   []string // gateways such as ws://127.0.0.1:8080, used in turn

	// Forget makes a client that does not send its position. It always starts at the stored position of the user or
	// device.
	Forget  bool
	Ack     AckPolicy
	Backoff time.Duration // maximum wait before a reconnect; default 50 ms

	// Dial opens the connections, for example through a proxy; default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// AckPolicy sets which messages a Client acknowledges.
type AckPolicy int

const (
	AckEach      AckPolicy = iota // each message as it arrives
	AckSometimes                  // a random quarter of the messages
	AckNever                      // none
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
