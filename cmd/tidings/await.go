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

// A long-running command may start before its NATS server, or before a cluster has a leader. It waits and logs what it waits for: to exit
// and be restarted again and again would be no faster and would say less. It exits at once on errors that time does not cure.

const (
	logEvery   = 5 * time.Second        // between two log lines about what is waited for
	retryAfter = 500 * time.Millisecond // on average
)

// await calls try until it succeeds, fails with an error that is not temporary, or ctx is done. It logs the first failure at once.
func await(ctx context.Context, log zerolog.Logger, what string, temporary func(error) bool, try func() error) error {
	var logged time.Time
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !temporary(err):
			return err
		case time.Since(logged) >= logEvery:
			log.Warn().Err(err).Msg("waiting for " + what)
			logged = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryAfter/2 + rand.N(retryAfter)):
		}
	}
}

// await connects as connect does, for long-running commands: it retries until a server answers, and warns about files of secrets that
// everybody can read.
func (n *natsFlags) await(ctx context.Context, name string, log zerolog.Logger) (nc *nats.Conn, err error) {
	for what, file := range map[string]string{"credentials for NATS": n.creds, "key for NATS": n.key} {
		if file != "" {
			warnIfWorldReadable(log, what, file)
		}
	}
	err = await(ctx, log, "NATS", unreachable, func() error {
		nc, err = n.connectContext(ctx, name, log)
		return err
	})
	return nc, err
}

// connectContext is connect with a context. nats.Connect takes none, so an attempt goes on in the background when ctx is done: for up to
// 5 s per server, or until the process exits.
func (n *natsFlags) connectContext(ctx context.Context, name string, log zerolog.Logger) (*nats.Conn, error) {
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

// unreachable reports whether connecting failed because no server answers yet. A name that does not resolve counts, since in some clusters
// it resolves only once the server runs. A wrong URL, credentials or certificate does not: waiting does not cure these.
func unreachable(err error) bool {
	var network *net.OpError
	switch {
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, io.EOF) && !errors.Is(err, nats.ErrTLS):
		return true
	}
	return errors.As(err, &network) && network.Op != "remote error" // a TLS alert: the server rejected us
}

// openStream calls streams.Open, and retries while JetStream is not ready. With the embedded server it does not retry: its JetStream is
// ready once it runs, so a failure is permanent.
func (o *gatewayOptions) openStream(ctx context.Context, nc *nats.Conn, log zerolog.Logger) (stream *streams.Stream, err error) {
	temporary := func(err error) bool { return o.nats.url != "" && notReady(err) }
	err = await(ctx, log, "JetStream", temporary, func() error {
		stream, err = streams.Open(ctx, nc, o.stream.cfg)
		if denied := denied(nc, "$JS.API.>"); err != nil && denied != nil {
			return denied
		}
		return err
	})
	return stream, err
}

// denied returns the last permission violation on the connection, with a hint, or nil if there was none. NATS does not reply to a request
// that permissions forbid; it reports the violation to the connection. subject is what the user must be allowed to publish to.
func denied(nc *nats.Conn, subject string) error {
	err := nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	return fmt.Errorf("%w (allow this NATS user to publish to %s and to subscribe to %s.>, or give --nats-inbox)",
		err, subject, strings.TrimSuffix(cmp.Or(nc.Opts.InboxPrefix, nats.InboxPrefix), "."))
}

// notReady reports whether JetStream did not reply, or replied that it has no leader or too few nodes.
func notReady(err error) bool {
	return streams.NotReady(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrDisconnected)
}

// unlessCanceled returns err, or nil if the start failed only because ctx is done: the operator stopped the command.
func unlessCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
