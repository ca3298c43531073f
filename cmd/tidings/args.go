package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// noArgs is the cobra Args function of commands that take only flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %.40q: %s takes only flags", args[0], cmd.CommandPath())
	}
	return nil
}

// oneUser is the cobra Args function of commands about one user.
func oneUser(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return fmt.Errorf("name a user: %s USER", cmd.CommandPath())
	case 1:
		return nil
	}
	return fmt.Errorf("unexpected argument %.40q: %s takes one user", args[1], cmd.CommandPath())
}

// userAndData is the cobra Args function of publish.
func userAndData(_ *cobra.Command, args []string) error {
	if len(args) > 2 {
		return fmt.Errorf("unexpected argument %.40q: give a user and the data, in quotes if it has spaces; --to names further users", args[2])
	}
	return nil
}

// onlyToken is the cobra Args function of listen. Its error does not repeat the argument, which may be a token.
func onlyToken(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return errors.New("unexpected argument: give the token with --token")
	}
	return nil
}
