package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams"
)

// What runs for good may be started before the NATS it needs, or beside a cluster that has no leader yet: it waits, and says for
// what. To end, and be started again and again, would be no faster and say less. What time does not cure ends it at once.

const (
	remindEvery = 5 * time.Second        // of what is waited for
	tryAgain    = 500 * time.Millisecond // on average
)

// await tries until it succeeds, fails in a way that does not pass, or ctx is done. The first failure is logged at once.
func await(ctx context.Context, log zerolog.Logger, what string, passes func(error) bool, try func() error) error {
	var told time.Time
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passes(err):
			return err
		case time.Since(told) >= remindEvery:
			log.Warn().Err(err).Msg("waiting for " + what)
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tryAgain/2 + rand.N(tryAgain)):
		}
	}
}

// await is connect for what runs for good.
func (n *natsFlags) await(ctx context.Context, name string, log zerolog.Logger) (nc *nats.Conn, err error) {
	for what, file := range map[string]string{"credentials for NATS": n.creds, "key for NATS": n.key} {
		if file != "" {
			warnOfReaders(log, what, file)
		}
	}
	err = await(ctx, log, "NATS", notThere, func() error {
		nc, err = n.connectUnder(ctx, name, log)
		return err
	})
	return nc, err
}

// connectUnder is connect, given up when ctx is done. nats.go knows no context: what it has begun then ends by itself, within
// 5 s for each server, or with the process.
func (n *natsFlags) connectUnder(ctx context.Context, name string, log zerolog.Logger) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	connected := make(chan result)
	go func() {
		nc, err := n.connect(name, log)
		select {
		case connected <- result{nc, err}:
		case <-ctx.Done():
			if err == nil {
				nc.Close()
			}
		}
	}()
	select {
	case r := <-connected:
		return r.nc, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// notThere says whether a connection failed because no server answers there, or not yet. A name that does not resolve counts: in
// some clusters it comes with the server. A URL, credentials or certificates that are wrong stay so.
func notThere(err error) bool {
	var network *net.OpError
	switch {
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, io.EOF) && !errors.Is(err, nats.ErrTLS):
		return true
	}
	return errors.As(err, &network) && network.Op != "remote error" // which is a refusal in TLS
}

// openStream is streams.Open, which waits for a JetStream that is not ready. The embedded server is, once it runs; where it fails,
// that ends the gateway.
func (o *gatewayOptions) openStream(ctx context.Context, nc *nats.Conn, log zerolog.Logger) (stream *streams.Stream, err error) {
	passes := func(err error) bool { return o.nats.url != "" && notReady(err) }
	err = await(ctx, log, "JetStream", passes, func() error {
		stream, err = streams.Open(ctx, nc, o.stream.cfg)
		if denied := denied(nc, "$JS.API.>"); err != nil && denied != nil {
			return denied
		}
		return err
	})
	return stream, err
}

// denied returns the last permission violation on the connection, with a hint, or nil if there was none. NATS does not answer a request
// that it forbids; it reports the violation to the connection. subject is what the user must be allowed to publish to.
func denied(nc *nats.Conn, subject string) error {
	err := nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	return fmt.Errorf("%w (allow this NATS user to publish to %s and to subscribe to %s.>, or give --nats-inbox)",
		err, subject, strings.TrimSuffix(cmp.Or(nc.Opts.InboxPrefix, nats.InboxPrefix), "."))
}

// notReady says whether JetStream did not answer, or answered that it has no leader or too few nodes.
func notReady(err error) bool {
	return streams.NotReady(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrDisconnected)
}

// unlessTold is nil where a start was cut short because ctx is done: to end was asked for.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
