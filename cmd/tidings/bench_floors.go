package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/delivery/bench"
	"github.com/tidings-io/tidings/streams/embedded"
)

// The floors and the attackers are commands, because they must be separate processes for their CPU use to be measured
// separately.

func newStreamFloor() *cobra.Command {
	var (
		data string
		sync syncFlag
	)
	cmd := &cobra.Command{
		Use: "floor-stream", Short: "Run NATS and one consumer that counts messages, for bench", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := embedded.Start(cmd.Context(), embedded.Config{Dir: data, Port: -1, SyncInterval: sync.interval})
			if err != nil {
				return err
			}
			defer func() { _ = server.Stop() }()
			log := zerolog.New(os.Stderr)
			nc, err := server.Connect(natsOptions("tidings bench", log)...)
			if err != nil {
				return err
			}
			defer nc.Close()
			return bench.ServeStream(cmd.Context(), nc, func() { log.Info().Str("nats", server.ClientURL()).Msg("serving") })
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the store")
	cmd.Flags().Var(&sync, "sync", "when NATS syncs to disk, see tidings gateway")
	return cmd
}

func newSocketFloor() *cobra.Command {
	return &cobra.Command{
		Use: "floor-sockets", Short: "Run a minimal WebSocket server, for bench", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			log := zerolog.New(os.Stderr)
			log.Info().Stringer("listen", listener.Addr()).Msg("serving")
			return bench.ServeSockets(cmd.Context(), listener)
		},
	}
}

func newAttackers() *cobra.Command {
	var (
		target string
		n      int
		within time.Duration
	)
	cmd := &cobra.Command{
		Use: "attackers", Short: "Make hostile connections, for bench", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), within)
			defer cancel()
			log := zerolog.New(os.Stderr)
			log.Info().Stringer("listen", listener.Addr()).Msg("serving")
			return bench.ServeAttackers(ctx, listener, target, n)
		},
	}
	cmd.Flags().StringVar(&target, "at", "", "address of the server, on the loopback interface")
	cmd.Flags().IntVar(&n, "connections", 1000, "number of hostile connections")
	durationVar(cmd.Flags(), &within, "within", 3*time.Minute, "time after which the command ends, unless it is stopped before")
	return cmd
}
