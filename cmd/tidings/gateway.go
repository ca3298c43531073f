package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams"
)

func newGateway() *cobra.Command {
	o := &gatewayOptions{}
	cmd := &cobra.Command{
		Use: "gateway", SuggestFor: []string{"serve", "server", "start", "run"},
		Short: "Serve clients, with an embedded NATS server or an existing one",
		Example: `  tidings gateway --dev                             embedded NATS, a demo page, the token is the user
  tidings gateway --data /var/lib/tidings           embedded NATS
  tidings gateway --nats nats://n1,nats://n2        a NATS cluster`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return badUsage(cmd, err)
			}
			log, err := o.log.logger(cmd.ErrOrStderr())
			if err != nil {
				return badUsage(cmd, err)
			}
			warnAboutUnknownVariables(log, cmd, os.Environ())
			return o.run(cmd.Context(), log, cmd.OutOrStdout())
		},
	}
	o.add(cmd.Flags())
	return cmd
}

// run starts the whole system, serves until ctx is done or a part fails, and then shuts down in order.
func (o *gatewayOptions) run(ctx context.Context, log zerolog.Logger, out io.Writer) (err error) {
	warnAboutFileLimit(log, o.limits.cfg.Connections)
	hurry := newHurry()
	defer hurry.stop()
	reload := newReloader(o.dev)
	defer reload.stop()
	keys, err := o.watchKeys(reload, log)
	if err != nil {
		return err
	}
	cert, err := o.tls.watch(reload, log)
	if err != nil {
		return err
	}
	demoKey := ""
	if o.dev {
		demoKey = delivery.KeyPrefix + rand.Text()
	}
	tracer, stopTracing := startTracing(log, out)
	defer stopTracing()
	// Open the ports first: if one is taken, nothing else has been started.
	listener, err := listen("listen", o.listen)
	if err != nil {
		return err
	}
	limits := o.limits.limits(o.dev)
	listener = delivery.NewListener(listener, limits, socketsWithin(fileLimit()), log)
	front := newFront(listener, cert, log)
	defer front.close()
	reload.start() // after the front, which presents the certificate
	admin, err := startAdmin(o.adminListen, log)
	if err != nil {
		return err
	}
	defer admin.close() // stops after NATS

	nc, embedded, err := o.startNATS(ctx, log)
	if err != nil {
		return unlessCanceled(ctx, err)
	}
	defer func() { err = errors.Join(err, embedded.stop()) }()

	stream, err := o.openStream(ctx, nc, log)
	if err != nil {
		return unlessCanceled(ctx, err)
	}
	tail := streams.NewTail(stream, streams.TailConfig{Encode: delivery.Encoder(tracer), MaxBytes: o.tail << 20, Logger: log})
	cursors := streams.NewCursors(tail, streams.CursorsConfig{
		Interval: o.commitInterval, MaxDevices: o.maxDevices, Committed: delivery.Committed(nc), Logger: log,
	})
	requester := auth.NewRequester(nc, auth.RequesterConfig{Subject: o.authSubject, Timeout: o.authTimeout})
	gateway := delivery.New(delivery.Config{
		NATS: nc, Auth: requester, Stream: stream, Tail: tail, Cursors: cursors,
		Origins: o.origins, TokenCookie: o.tokenCookie, Demo: o.dev, DemoKey: demoKey, Limits: limits, Listener: listener,
		AuthWithin: o.authWithin, OpenWithin: o.authTimeout + openMargin, Ping: o.ping, Drain: o.drain, Version: semver(), Logger: log, Tracer: tracer,
		CertificateExpires: cert.expires(), ReloadFailures: reload.failed.Load, DiskFull: embedded.full,
	})
	keys.subscribe(gateway.SetKeys)

	parts, life := errgroup.WithContext(context.WithoutCancel(ctx)) // parts run on after the signal, until drained
	life, end := context.WithCancel(life)
	defer end()
	// The Tail runs on after them, until positions are committed: a commit needs a connection over which the Tail has read the stream.
	reading, endTail := context.WithCancel(context.WithoutCancel(ctx))
	defer endTail()
	reader, tailLife := errgroup.WithContext(reading)
	reader.Go(func() error { return tail.Run(reading) })
	parts.Go(func() error { return cursors.Run(life) })
	parts.Go(func() error { return streams.NewJanitor(stream, log).Run(life) })
	parts.Go(func() error { return gateway.Run(life) })
	parts.Go(func() error { return tuneGC(life) })
	ready := []<-chan struct{}{tail.Ready(), gateway.Ready()}
	if o.dev {
		responder := auth.NewResponder(nc, auth.TokenIsUser("all"), auth.ResponderConfig{Subject: o.authSubject, Logger: log})
		parts.Go(func() error { return responder.Run(life) })
		ready = append(ready, responder.Ready())
	}

	// Serve clients only when the Tail is warm, or they would read from the stream what is about to be in memory, and only when the gateway
	// receives disconnect requests.
	warm := allOf(life, ready)
	for ended := false; !ended; {
		select {
		case <-warm:
			warm = nil
			front.open(gateway.Handler())
			admin.watch(watched{unready: gateway.Unready, metrics: gateway.Metrics()})
			url := o.natsURL(nc)
			log.Info().Stringer("listen", front.address).Str("nats", cmp.Or(url, "in this process")).Str("stream", stream.Name()).Msg("serving")
			o.printHints(out, front.url(), url, demoKey)
		case <-ctx.Done():
			log.Info().Msg("stopping")
			ended = true
		case <-life.Done():
			ended = true
		case <-tailLife.Done():
			ended = true
		case err = <-embedded.failed:
			ended = true
		case <-front.ended:
			err, ended = front.err, true
		case <-admin.failed():
			err, ended = admin.err, true
		}
	}
	err = errors.Join(err, o.shutdown(front, gateway, cursors, hurry, func() error { end(); return parts.Wait() }))
	endTail()
	return errors.Join(err, reader.Wait())
}

// allOf returns a channel that is closed once all of the given channels are closed. It stops waiting when ctx is done.
func allOf(ctx context.Context, ready []<-chan struct{}) <-chan struct{} {
	all := make(chan struct{})
	go func() {
		for _, one := range ready {
			select {
			case <-one:
			case <-ctx.Done():
				return
			}
		}
		close(all)
	}()
	return all
}
