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

// The floors, and attackers, are commands because they must be processes: what they take of the machine is then theirs alone.

func newStreamFloor() *cobra.Command {
	var (
		data string
		sync syncFlag
	)
	cmd := &cobra.Command{
		Use: "floor-stream", Short: "Run NATS and one consumer that counts, to be measured by bench", Hidden: true, Args: noArgs,
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
	cmd.Flags().Var(&sync, "sync", "as of tidings gateway")
	return cmd
}

func newSocketFloor() *cobra.Command {
	return &cobra.Command{
		Use: "floor-sockets", Short: "Run a WebSocket server that writes what it is told to, to be measured by bench", Hidden: true, Args: noArgs,
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
	cmd.Flags().StringVar(&target, "at", "", "address on this machine")
	cmd.Flags().IntVar(&n, "connections", 1000, "so many")
	durationVar(cmd.Flags(), &within, "within", 3*time.Minute, "after which they stop, if nobody has stopped them before")
	return cmd
}
