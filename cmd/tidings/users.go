package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/streams"
)

// usersOptions holds the flags that the commands about users share.
type usersOptions struct {
	nats   natsFlags
	stream streamFlags
}

func newUsers() *cobra.Command {
	o := &usersOptions{}
	var machineRead bool
	cmd := &cobra.Command{
		Use:   "users",
		Short: "List users with their position and unread count, or forget one",
		Args:  knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(cmd, func(ctx context.Context, stream *streams.Stream) error {
				all, err := stream.Users().List(ctx)
				if err != nil && !errors.Is(err, streams.ErrIncomplete) {
					return err
				}
				show := printTable
				if machineRead {
					show = printJSON
				}
				return errors.Join(show(cmd.OutOrStdout(), all), err)
			})
		},
	}
	cmd.Flags().BoolVar(&machineRead, "json", false, "print JSON, one user a line")
	cmd.Flags().SortFlags = false
	cmd.PersistentFlags().SortFlags = false
	cmd.AddCommand(newForget(o))
	o.stream.addName(cmd.PersistentFlags())
	o.nats.add(cmd.PersistentFlags(), "nats://127.0.0.1:4222")
	return cmd
}

func (o *usersOptions) with(cmd *cobra.Command, do func(context.Context, *streams.Stream) error) error {
	nc, err := o.nats.connect("tidings users", zerolog.Nop())
	if err != nil {
		return err
	}
	defer nc.Close()
	stream, err := streams.Find(cmd.Context(), nc, o.stream.cfg)
	if err != nil {
		return err
	}
	return do(cmd.Context(), stream)
}

func printTable(w io.Writer, all []streams.CursorState) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "USER\tDEVICE\tPOSITION\tUNREAD\tSINCE")
	for _, c := range all {
		position, unread := fmt.Sprint(c.Seq), fmt.Sprint(c.Unread)
		if c.Over { // the position is void: the user gets all that the stream holds
			position, unread = "-", "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.User, c.Device, position, unread, c.Created.Local().Format(time.DateTime))
	}
	return t.Flush()
}

func printJSON(w io.Writer, all []streams.CursorState) error {
	enc := json.NewEncoder(w)
	for _, c := range all {
		line := map[string]any{"user": c.User, "device": c.Device, "position": c.Seq, "unread": c.Unread, "since": c.Created.UTC()}
		if c.Over {
			line["position"], line["unread"] = nil, nil
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
