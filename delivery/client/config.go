package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/wire"
)

// Config says where and as which user to connect, and which functions handle what arrives. URL,
// Token and OnMessage are required; the zero value of any other field means its default.
//
// All On… functions are called by the goroutine of Run, one at a time, in the order of the frames.
// They must not call Run. While one of them runs, the connection stays alive and up to 256 frames
// wait in a queue. When the queue is full, the client stops reading. The server closes a connection
// that is not read for long (10 s by default). Queued frames are still handled then, and the next
// connection brings the rest.
type Config struct {
	// URL is a ws:// or wss:// URL, such as ws://127.0.0.1:8080/v1/ws. http:// and https:// mean
	// the same. Without a path, wire.Path is used.
	URL string
	// Token is called before each connection attempt, and when the lease is about to end. An error
	// that wraps ErrUnauthorized stops the client; after any other error the client waits and tries
	// again. For a renewal it is called from another goroutine, never twice at the same time and
	// never while connecting. The context of a renewal ends with the connection.
	Token func(ctx context.Context) (string, error)
	// Device names a device with a position of its own on the server. Empty: the position that all
	// of the user's connections without a device share.
	Device string
	// Resume starts after the position of an earlier run. Nil or the zero Position: the position
	// stored at the server.
	Resume *Position

	// OnMessage handles one message; ctx is that of Run. If it returns an error, the message is not
	// acknowledged and the position stays before it. The client then closes the connection and
	// reconnects with backoff to receive the message again. Later messages wait. Once OnMessage has
	// failed on a message Attempts times and for Patience, the message is skipped.
	OnMessage func(ctx context.Context, m Message) error
	// Attempts is how many times OnMessage must fail on a message before the message is skipped.
	// Failures after the connection was lost, or after ctx was cancelled, do not count. Default 5.
	// Negative: never skip, so that a message that keeps failing blocks all later ones.
	Attempts int
	// Patience is how long OnMessage must keep failing on a message before the message is skipped.
	// It is the sum of the pauses between attempts, without the time in which the server is
	// unreachable. Default 5 minutes.
	Patience time.Duration
	// OnSkip reports a skipped message and the last error of OnMessage. The message counts as
	// handled, and is acknowledged unless ManualAck is set. Default: log an error with log/slog,
	// without the message's data.
	OnSkip func(m Message, err error)
	// ManualAck leaves acknowledging to Client.Ack. Otherwise a message is acknowledged once
	// OnMessage has returned nil.
	ManualAck bool
	// AckEvery is how long acknowledgements are collected before one frame is sent; 16 are sent at
	// once. Default 50 ms.
	AckEvery time.Duration

	// OnState reports each change of state. The error is the reason for Waiting or Closed.
	OnState func(State, error)
	// OnReady reports each admission. If the epoch or the user is not the one before, or After is
	// below the position, seq starts over: numbers after After are used again.
	OnReady func(Ready)
	// OnGap reports that messages may be missing. Reload whatever you derived from them.
	OnGap func(Gap)
	// OnLive reports that everything stored when the client authenticated has been handled, up to
	// seq.
	OnLive func(seq uint64)
	// OnAcked reports that another connection with the same position has acknowledged messages up
	// to seq.
	OnAcked func(seq, unread uint64)
	// OnError reports an error that does not end the connection: an error frame, or a failure to
	// get a token for a renewal.
	OnError func(error)

	// MinBackoff and MaxBackoff bound the wait before a reconnect: a random time up to
	// MinBackoff·2ⁿ, and at most MaxBackoff. A delay that the server requests takes precedence.
	// Defaults 500 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// Grace is how long the server may be silent beyond its ping interval before the client
	// considers the connection dead. Until the server has sent its interval, the limit is 1.5 times
	// Grace. Default 10 s.
	Grace time.Duration
	// MaxFrame is the maximum size of a frame in bytes; a larger one stops the client. Default 2
	// MiB, which is enough for data of 1 MiB less 8 KiB (see wire.MaxMsg). A gateway sends larger
	// frames only if its --max-notification is larger.
	MaxFrame int64

	// Dialer makes the connections. Its Subprotocols are replaced. Default: proxies from the
	// environment, and a handshake timeout of 10 s.
	Dialer *websocket.Dialer
	// Header is sent with the handshake, for example to set Origin.
	Header http.Header
	// Rand returns a number in [0, 1). Default math/rand/v2.
	Rand func() float64
}

// withDefaults validates the configuration and fills in the defaults. Errors do not quote the URL,
// which may contain a credential.
func (cfg Config) withDefaults() (Config, error) {
	address, err := url.Parse(cfg.URL)
	if err != nil || address.Host == "" {
		return cfg, errors.New("client: Config.URL is not a URL with a host (want one like ws://127.0.0.1:8080/v1/ws)")
	}
	switch address.Scheme {
	case "ws", "wss":
	case "http":
		address.Scheme = "ws"
	case "https":
		address.Scheme = "wss"
	default:
		return cfg, fmt.Errorf("client: Config.URL has scheme %q (want ws or wss)", address.Scheme)
	}
	if address.User != nil {
		return cfg, errors.New("client: Config.URL contains a user (pass the credential with Config.Token)")
	}
	if address.Path == "" || address.Path == "/" {
		address.Path = wire.Path
	}
	address.Fragment = ""
	cfg.URL = address.String()

	switch {
	case cfg.Token == nil:
		return cfg, errors.New("client: Config.Token is nil (want a function that returns the user's token)")
	case cfg.OnMessage == nil:
		return cfg, errors.New("client: Config.OnMessage is nil (want a function that handles a message)")
	case cfg.Resume != nil && *cfg.Resume != (Position{}) && (cfg.Resume.User == "" || cfg.Resume.Epoch == ""):
		return cfg, errors.New("client: Config.Resume lacks User or Epoch (pass the result of Client.Position)")
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = 5
	}
	orDefault(&cfg.Patience, 5*time.Minute)
	orDefault(&cfg.AckEvery, 50*time.Millisecond)
	orDefault(&cfg.MinBackoff, 500*time.Millisecond)
	orDefault(&cfg.MaxBackoff, 30*time.Second)
	orDefault(&cfg.Grace, 10*time.Second)
	orDefault(&cfg.MaxFrame, 2<<20)
	if cfg.Dialer == nil {
		cfg.Dialer = &websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: 10 * time.Second}
	}
	dialer := *cfg.Dialer
	dialer.Subprotocols = []string{wire.Subprotocol}
	cfg.Dialer = &dialer
	cfg.Header = cfg.Header.Clone()
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.OnSkip == nil {
		cfg.OnSkip = func(m Message, err error) {
			slog.Error("tidings: message skipped: OnMessage keeps failing", "seq", m.Seq, "id", m.ID, "kind", m.Kind, "error", err)
		}
	}
	if cfg.OnState == nil {
		cfg.OnState = func(State, error) {}
	}
	if cfg.OnReady == nil {
		cfg.OnReady = func(Ready) {}
	}
	if cfg.OnGap == nil {
		cfg.OnGap = func(Gap) {}
	}
	if cfg.OnLive == nil {
		cfg.OnLive = func(uint64) {}
	}
	if cfg.OnAcked == nil {
		cfg.OnAcked = func(uint64, uint64) {}
	}
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	return cfg, nil
}

func orDefault[N time.Duration | int64](n *N, def N) {
	if *n <= 0 {
		*n = def
	}
}
