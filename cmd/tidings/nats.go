package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams/embedded"
)

// checkEmbedded rejects flags that do not apply to the embedded server, and settings that would leave it open to the network.
func (o *gatewayOptions) checkEmbedded() error {
	if o.data == "" {
		return nil
	}
	for _, f := range [][2]string{
		{"creds", o.nats.creds}, {"nats-ca", o.nats.ca}, {"nats-cert", o.nats.cert}, {"nats-key", o.nats.key}, {"nats-inbox", o.nats.inbox},
	} {
		if f[1] != "" {
			return fmt.Errorf("--%s applies only to a server named by --nats (the embedded server takes --nats-user and --nats-password, or --nats-token)", f[0])
		}
	}
	switch n := o.nats; {
	case (n.user == "") != (n.password == ""), n.user != "" && n.token != "":
		return errors.New("--nats-user and --nats-password belong together, and exclude --nats-token: with --data they are the credentials that the embedded server requires")
	case o.natsPort == 0 && !o.dev:
		return errors.New("--nats-port 0: no responder could reach the embedded server to authenticate tokens " +
			"(use a port such as --nats-port 4222, which is on loopback by default, or --dev, which authenticates tokens itself)")
	case o.natsPort != 0 && n.user == "" && n.token == "" && !isLoopback(o.natsHost):
		return fmt.Errorf("--nats-host %s: public address without credentials: anybody could read and publish everything (set --nats-user and "+
			"--nats-password, or --nats-token, better in the environment; or use 127.0.0.1)", o.natsHost)
	}
	return nil
}

// natsURL returns the URL of the NATS server for other processes, or "" if they cannot reach it.
func (o *gatewayOptions) natsURL(nc *nats.Conn) string {
	if o.nats.url == "" && o.natsPort == 0 {
		return ""
	}
	return redacted(nc.ConnectedUrl())
}

// embeddedNATS is the embedded server as the gateway uses it. With --nats there is none, and stop only closes the connection.
type embeddedNATS struct {
	stop   func() error
	failed <-chan error // nil with --nats
	full   func() bool  // whether the disk is full; nil with --nats
}

// startNATS connects to the server named by --nats, waiting until it answers, or starts the embedded server and connects to that.
func (o *gatewayOptions) startNATS(ctx context.Context, log zerolog.Logger) (nc *nats.Conn, e embeddedNATS, err error) {
	if o.nats.url != "" {
		if nc, err = o.nats.await(ctx, "tidings gateway", log); err != nil {
			return nil, e, err
		}
		return nc, embeddedNATS{stop: func() error { nc.Close(); return nil }}, nil
	}
	if o.natsPort != 0 && !isLoopback(o.natsHost) { // checkEmbedded made sure that it requires credentials
		log.Warn().Str("nats-host", o.natsHost).Msg("the embedded NATS server has no TLS: credentials and notifications are readable on the network: " +
			"use it only in a trusted network, or use --nats with a server that has TLS")
	}
	server, err := embedded.Start(ctx, embedded.Config{
		Dir: o.data, Host: o.natsHost, Port: o.natsPort, SyncInterval: o.sync.interval, MaxStore: o.maxStore,
		InProcess: o.natsPort == 0, User: o.nats.user, Password: o.nats.password, Token: o.nats.token,
		MaxPayload: o.maxPayload(), Logger: log,
	})
	if err != nil {
		return nil, e, err
	}
	nc, err = server.Connect(natsOptions("tidings gateway", log)...)
	if err != nil {
		return nil, e, errors.Join(err, server.Stop())
	}
	stop := func() error {
		nc.Close()
		err := server.Stop()
		if errors.Is(err, embedded.ErrStopping) { // expected with 1,000 durables or more; all data is on disk by now
			log.Info().Err(err).Msg("embedded NATS server still stopping; exiting without it")
			return nil
		}
		return err
	}
	return nc, embeddedNATS{stop, server.Failed(), server.Full}, nil
}
