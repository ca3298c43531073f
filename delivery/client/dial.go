package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/wire"
)

// dial connects and sends nothing. first reports that no dial has succeeded before.
func dial(ctx context.Context, cfg *Config, at *progress, first bool) (*conn, *ending) {
	dialer, release := interruptible(ctx, cfg.Dialer)
	defer release()
	ws, response, err := dialer.DialContext(ctx, cfg.URL, cfg.Header)
	if err != nil {
		if tlsErr := explainTLS(ctx, dialer, cfg.URL, response, err, first); tlsErr != nil {
			return nil, &ending{err: fmt.Errorf("connect: %w", tlsErr), stop: first}
		}
		if errors.Is(err, websocket.ErrBadHandshake) && response.StatusCode != http.StatusSwitchingProtocols {
			return nil, refused(response)
		}
		return nil, &ending{err: fmt.Errorf("connect: %w", err)}
	}
	if chosen := ws.Subprotocol(); chosen != "" && chosen != wire.Subprotocol {
		_ = ws.Close()
		return nil, closed(wire.CloseNoProtocol, "the server chose another subprotocol")
	}
	ws.SetReadLimit(cfg.MaxFrame)
	at.connected()
	abandoned := make(chan struct{})
	return &conn{
		cfg: cfg, ws: ws, progress: at,
		events:     make(chan event, queueLength),
		abandon:    sync.OnceFunc(func() { close(abandoned) }),
		abandoned:  abandoned,
		readerDone: make(chan struct{}),
		silence:    cfg.Grace + cfg.Grace/2,
		pongEvery:  cfg.Grace / 2,
	}, nil
}

// interruptible returns a dialer whose dials end with ctx. gorilla/websocket 1.5.3 observes a
// cancellation only until the TCP connection is established, and then waits for the handshake up to
// its timeout. Call release when the dial has returned; from then on ctx does not close the
// connection.
func interruptible(ctx context.Context, d *websocket.Dialer) (dialer *websocket.Dialer, release func()) {
	type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)
	var stops []func() bool
	closeOnDone := func(dial dialFunc) dialFunc {
		return func(dialing context.Context, network, addr string) (net.Conn, error) {
			nc, err := dial(dialing, network, addr)
			if err == nil {
				stops = append(stops, context.AfterFunc(ctx, func() { _ = nc.Close() }))
			}
			return nc, err
		}
	}
	plain := d.NetDialContext
	if plain == nil && d.NetDial != nil {
		plain = func(_ context.Context, network, addr string) (net.Conn, error) { return d.NetDial(network, addr) }
	}
	if plain == nil {
		plain = (&net.Dialer{}).DialContext
	}
	copied := *d
	copied.NetDialContext = closeOnDone(plain)
	if d.NetDialTLSContext != nil {
		copied.NetDialTLSContext = closeOnDone(d.NetDialTLSContext)
	}
	return &copied, func() {
		for _, stop := range stops {
			stop()
		}
	}
}
