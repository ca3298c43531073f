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

// Config says where to connect, who as, and what to do with what comes. URL, Token and OnMessage must be set; the zero
// value of any other field is its default.
//
// All On… functions are called by the goroutine that runs Run, one at a time and in the order of the connection's frames.
// They must not call Run. While one of them takes its time the connection stays alive and up to 256 frames wait; beyond
// that the client stops reading. A server gives up on a client that reads nothing for long (10 s by default): what waits
// is then handled nevertheless, and the rest comes with the next connection.
type Config struct {
	// URL is ws:// or wss://, such as ws://127.0.0.1:8080/v1/ws; http:// and https:// mean the same. Without a path it gets
	// wire.Path.
	URL string
	// Token is asked before every connect, and for a renewal when the lease is about to end. An error that wraps
	// ErrUnauthorized stops the client; after any other it waits and asks again. A renewal calls it from a goroutine of its
	// own, at most one at a time and never during a connect, with a context that ends with the connection.
	Token func(ctx context.Context) (string, error)
	// Device names a position of its own on the server. Empty: the one that all of the user's connections share.
	Device string
	// Resume begins behind a position of an earlier run instead of the one that the server stored. Nil or the zero
	// Position: the stored one.
	Resume *Position

	// OnMessage handles one message; ctx is Run's. On an error the message is not acknowledged and the position does not move
	// past it: the client closes the connection and reconnects, with backoff, to receive it again. Later messages wait
	// meanwhile. Once OnMessage has failed on a message Attempts times, and over Patience, the message is skipped.
	OnMessage func(ctx context.Context, m Message) error
	// Attempts is how often OnMessage must fail on a message before it is skipped. Failures after the connection was lost, or
	// after ctx is done, do not count. Default 5; negative: never skip, so that the message holds up all later ones.
	Attempts int
	// Patience is how long OnMessage must fail on a message before it is skipped: the sum of the pauses between attempts,
	// without the time in which the server cannot be reached. Default 5 minutes.
	Patience time.Duration
	// OnSkip reports a message that is skipped, with the last error of OnMessage. The message counts as handled, and is
	// acknowledged unless ManualAck is set. Default: an error is logged with log/slog, without the message's data.
	OnSkip func(m Message, err error)
	// ManualAck leaves acknowledging to Client.Ack. Otherwise a message is acknowledged once OnMessage returned nil.
	ManualAck bool
	// AckEvery is how long acknowledgements are gathered before one is sent; 16 of them are sent at once. Default 50 ms.
	AckEvery time.Duration

	// OnState tells of each change of state; the error is why the client waits or was closed.
	OnState func(State, error)
	// OnReady reports each admission. With another epoch or user than before, or an After below the position, seq starts over:
	// from After, numbers are used again.
	OnReady func(Ready)
	// OnGap tells that messages may be gone: what the caller derived from them wants to be loaded anew.
	OnGap func(Gap)
	// OnLive tells that all which the connection found stored, up to seq, was handled.
	OnLive func(seq uint64)
	// OnAcked tells that another connection with the same position acknowledged.
	OnAcked func(seq, unread uint64)
	// OnError tells of what went wrong without ending the connection: an error frame, a token that could not be had for a
	// renewal.
	OnError func(error)

	// MinBackoff and MaxBackoff bound the wait before another connect: a random time up to MinBackoff·2ⁿ, at most up to
	// MaxBackoff. A time that the server asks for wins. Defaults 500 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// Grace is how long the server may be silent past its ping interval before the connection is taken for dead. Before the
	// server has told its interval, one and a half of it counts. Default 10 s.
	Grace time.Duration
	// MaxFrame is the largest frame that is read, in bytes; a larger one stops the client. Default 2 MiB, room for data of
	// 1 MiB less 8 KiB: see wire.MaxMsg. A gateway sends more only if its --max-notification is larger.
	MaxFrame int64

	// Dialer makes the connections; its Subprotocols are replaced. Default: proxies from the environment, 10 s for a
	// handshake.
	Dialer *websocket.Dialer
	// Header is sent with the handshake, such as Origin.
	Header http.Header
	// Rand returns a number in [0, 1). Default math/rand/v2.
	Rand func() float64
}

// withDefaults validates the configuration and fills it. Errors do not quote the URL, which may hold a credential.
func (cfg Config) withDefaults() (Config, error) {
	address, err := url.Parse(cfg.URL)
	if err != nil || address.Host == "" {
		return cfg, errors.New("client: Config.URL is no URL with a host (want one like ws://127.0.0.1:8080/v1/ws)")
	}
	switch address.Scheme {
	case "ws", "wss":
	case "http":
		address.Scheme = "ws"
	case "https":
		address.Scheme = "wss"
	default:
		return cfg, fmt.Errorf("client: Config.URL has the scheme %q (want ws or wss)", address.Scheme)
	}
	if address.User != nil {
		return cfg, errors.New("client: Config.URL names a user (give the credential by Config.Token)")
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
		return cfg, errors.New("client: Config.Resume lacks User or Epoch (give what Client.Position returned)")
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

func orDefault[N time.Duration | int64](n *N, otherwise N) {
	if *n <= 0 {
		*n = otherwise
	}
}
