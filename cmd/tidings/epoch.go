package main

import (
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/streams"
)

func newEpoch() *cobra.Command {
	var (
		nats   natsFlags
		stream streamFlags
	)
	cmd := &cobra.Command{
		Use:   "new-epoch",
		Short: "Declare that the stream went back in time: after restoring a backup",
		Long: `Declare that the stream went back in time, so that sequences have another meaning than before: after restoring a backup while
no gateway was running, or after a power failure without --sync always. A running gateway notices it by itself.

Every client gets a gap (stream_reset) when it connects, earlier positions become void, and each user gets again what the stream
holds for them.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			nc, err := nats.connect("tidings new-epoch", zerolog.Nop())
			if err != nil {
				return err
			}
			defer nc.Close()
			s, err := streams.Find(cmd.Context(), nc, stream.cfg)
			if err != nil {
				return err
			}
			st, err := s.NewEpoch(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is in epoch %s now, from seq %d\n", s.Name(), st.Epoch, st.First)
			return err
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	stream.addName(flags)
	nats.add(flags, "nats://127.0.0.1:4222")
	return cmd
}
