package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/streams"
)

// forgetOptions holds the flags of `tidings users forget`.
type forgetOptions struct {
	*usersOptions
	device        string
	messages, yes bool
}

func newForget(users *usersOptions) *cobra.Command {
	o := &forgetOptions{usersOptions: users}
	cmd := &cobra.Command{
		Use:   "forget USER",
		Short: "Remove a user's positions, and with --messages the notifications too",
		Long: `Remove the positions of all of a user's devices, or with --device the position of one. With --messages, also remove all
notifications that are stored for the user; on a terminal this asks first, elsewhere it needs --yes.

Connections stay open, and a connected client stores a new position: run tidings disconnect USER first. The exit code is 1 if
there is nothing to remove.`,
		Example: `  tidings users forget alice
  tidings users forget alice --device old-phone
  tidings users forget alice --messages --yes`,
		Args: oneUser,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.device != "" && o.messages:
				return badUsage(cmd, errors.New("--messages removes the notifications of all devices: leave out --device"))
			case o.messages && !o.yes && !isTerminal(cmd.InOrStdin()):
				return badUsage(cmd, errors.New("--messages removes notifications for good: confirm with --yes, there is no terminal to ask on"))
			}
			return o.with(cmd, func(ctx context.Context, stream *streams.Stream) error {
				if o.device != "" {
					return forgetDevice(ctx, cmd.OutOrStdout(), stream.Users(), streams.CursorID{User: args[0], Device: o.device})
				}
				return o.forget(ctx, cmd, stream, args[0])
			})
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&o.device, "device", "", "remove only the position of this device")
	cmd.Flags().BoolVar(&o.messages, "messages", false, "remove the user's notifications too")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "with --messages: do not ask")
	return cmd
}

func (o *forgetOptions) forget(ctx context.Context, cmd *cobra.Command, stream *streams.Stream, user string) error {
	subject, err := streams.UserSubject(user)
	if err != nil {
		return err
	}
	stored, err := stream.Count(ctx, subject)
	if err != nil {
		return err
	}
	if o.messages && !o.yes && stored > 0 {
		question := fmt.Sprintf("Remove all positions of %s and %s for good?", user, counted(stored, "notification"))
		if err := confirm(cmd, question); err != nil {
			return err
		}
	}
	positions, purged, err := stream.Users().Forget(ctx, user, o.messages)
	switch {
	case err != nil:
		return err
	case positions == 0 && stored == 0:
		return fmt.Errorf("unknown user %q: no position and no notification in %s (tidings users lists users with a position)", user, stream.Name())
	case positions == 0 && !o.messages:
		return fmt.Errorf("%s has no position; %s stored (--messages removes notifications too)", user, counted(stored, "notification"))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "forgot %s: %s, %s\n", user, counted(positions, "position"), counted(purged, "notification"))
	return err
}

func forgetDevice(ctx context.Context, w io.Writer, users *streams.Users, id streams.CursorID) error {
	forgotten, err := users.ForgetDevice(ctx, id)
	if err != nil {
		return err
	}
	if !forgotten {
		return fmt.Errorf("%s has no position on device %q (tidings users lists them)", id.User, id.Device)
	}
	_, err = fmt.Fprintf(w, "forgot device %s of %s\n", id.Device, id.User)
	return err
}
