package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams/embedded"
)

// checkEmbedded says what makes no sense for an embedded server, or no safe one.
func (o *gatewayOptions) checkEmbedded() error {
	if o.data == "" {
		return nil
	}
	for _, f := range [][2]string{
		{"creds", o.nats.creds}, {"nats-ca", o.nats.ca}, {"nats-cert", o.nats.cert}, {"nats-key", o.nats.key}, {"nats-inbox", o.nats.inbox},
	} {
		if f[1] != "" {
			return fmt.Errorf("--%s is for the server of --nats; the embedded one asks for --nats-user and --nats-password, or for --nats-token, if given", f[0])
		}
	}
	switch n := o.nats; {
	case (n.user == "") != (n.password == ""), n.user != "" && n.token != "":
		return errors.New("--nats-user and --nats-password belong together, and --nats-token stands alone: with --data they are what the embedded server demands")
	case o.natsPort == 0 && !o.dev:
		return errors.New("--nats-port 0: nobody could answer for tokens, as no responder can reach the embedded server " +
			"(give it a port, such as --nats-port 4222, which is on loopback by default; or use --dev, which answers for tokens itself)")
	case o.natsPort != 0 && n.user == "" && n.token == "" && !isLoopback(o.natsHost):
		return fmt.Errorf("--nats-host %s: anybody who reaches it could read and publish everything: demand --nats-user and --nats-password, "+
			"or --nats-token (better in the environment), or listen on 127.0.0.1", o.natsHost)
	}
	return nil
}

// natsURL is where others find the NATS that we use; empty: nowhere.
func (o *gatewayOptions) natsURL(nc *nats.Conn) string {
	if o.nats.url == "" && o.natsPort == 0 {
		return ""
	}
	return redacted(nc.ConnectedUrl())
}

// embeddedNATS is what the gateway has to do with a server in this process. Without one, stop closes the connection.
type embeddedNATS struct {
	stop   func() error
	failed <-chan error // nil without
	full   func() bool  // nil without
}

// startNATS connects to the server named by --nats, once it is there, or starts one in this process.
func (o *gatewayOptions) startNATS(ctx context.Context, log zerolog.Logger) (nc *nats.Conn, e embeddedNATS, err error) {
	if o.nats.url != "" {
		if nc, err = o.nats.await(ctx, "tidings gateway", log); err != nil {
			return nil, e, err
		}
		return nc, embeddedNATS{stop: func() error { nc.Close(); return nil }}, nil
	}
	if o.natsPort != 0 && !isLoopback(o.natsHost) { // checkEmbedded has seen that it demands credentials
		log.Warn().Str("nats-host", o.natsHost).Msg("the embedded NATS server speaks no TLS: credentials and notifications can be read on the network. " +
			"Use it in a network that you trust, or a NATS server of your own with --nats")
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
		if errors.Is(err, embedded.ErrStopping) { // by design, with 1,000 durables and more: what matters is on disk by now
			log.Info().Err(err).Msg("the embedded NATS server is not waited for any longer")
			return nil
		}
		return err
	}
	return nc, embeddedNATS{stop, server.Failed(), server.Full}, nil
}
