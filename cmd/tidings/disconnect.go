package main

import (
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/delivery"
)

func newDisconnect() *cobra.Command {
	var (
		nats           natsFlags
		device, reason string
	)
	cmd := &cobra.Command{
		Use:   "disconnect USER",
		Short: "Close a user's connections on every gateway",
		Long: `Close a user's connections on every gateway, including those that are authenticating. Clients do not reconnect by
themselves; to keep them out, make the backend refuse their token first.`,
		Args: oneUser,
		RunE: func(cmd *cobra.Command, args []string) error {
			nc, err := nats.connect("tidings disconnect", zerolog.Nop())
			if err != nil {
				return err
			}
			defer nc.Close()
			var only *string
			if cmd.Flags().Changed("device") {
				only = &device
			}
			closed, gateways, err := delivery.Disconnect(cmd.Context(), nc, args[0], only, reason)
			if err != nil {
				return err
			}
			if gateways == 0 {
				if denied := denied(nc, delivery.DisconnectSubject); denied != nil {
					return denied
				}
				return fmt.Errorf("no gateway answered at %s (start one, or name the right --nats)", redacted(nc.ConnectedUrl()))
			}
			if closed == 0 {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "closed no connection: %s is not connected%s (%s answered; tidings users lists known users)\n",
					args[0], onDevice(only), counted(gateways, "gateway"))
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "closed %s of %s (%s answered)\n",
				counted(closed, "connection"), args[0], counted(gateways, "gateway"))
			return err
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&device, "device", "", "only connections of this device")
	flags.StringVar(&reason, "reason", "", "reason to send to the client")
	nats.add(flags, "nats://127.0.0.1:4222")
	return cmd
}

// onDevice returns the end of a sentence about a user: empty, or about one of the user's devices.
func onDevice(device *string) string {
	switch {
	case device == nil:
		return ""
	case *device == "":
		return " without a device name"
	}
	return " on device " + *device
}
