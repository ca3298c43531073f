package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/auth"
)

func newResponder() *cobra.Command {
	var (
		nats           natsFlags
		logging        logFlags
		users, subject string
	)
	cmd := &cobra.Command{
		Use:   "responder --users FILE",
		Short: "Answer authentication requests from a file of tokens",
		Long: `Answer the gateways' questions about tokens from a file, for demos and tests:

  {"token-1": {"user": "42", "topics": ["releases"], "expires_in": 3600}}

topics and expires_in (seconds) may be left out. A real backend answers on the same subject, in any language.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if users == "" {
				return badUsage(cmd, errors.New("name the file of tokens: --users FILE"))
			}
			log, err := logging.logger(cmd.ErrOrStderr())
			if err != nil {
				return badUsage(cmd, err)
			}
			table, err := auth.LoadTable(users)
			if err != nil {
				return err
			}
			warnIfWorldReadable(log, "tokens", users)
			nc, err := nats.await(cmd.Context(), "tidings responder", log)
			if err != nil {
				return unlessCanceled(cmd.Context(), err)
			}
			defer nc.Close()
			log.Info().Int("tokens", table.Len()).Str("subject", subject).Msg("answering authentication requests")
			return auth.NewResponder(nc, table, auth.ResponderConfig{Subject: subject, Version: semver(), Logger: log}).Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&users, "users", "", "JSON file of tokens")
	flags.StringVar(&subject, "auth-subject", auth.DefaultSubject, "subject to answer on")
	nats.add(flags, "nats://127.0.0.1:4222")
	logging.add(flags)
	return cmd
}
