package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// knownCommand is the cobra Args function of commands that have only subcommands. It rejects any other word and suggests a similar command.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	path := cmd.CommandPath() + " "
	similar := nearest(args[0], names)
	for _, sub := range cmd.Commands() {
		if slices.Contains(sub.SuggestFor, args[0]) {
			similar = sub.Name()
		}
	}
	if similar != "" {
		return fmt.Errorf("unknown command %q: did you mean %q?", path+args[0], path+similar)
	}
	return fmt.Errorf("unknown command %q", path+args[0])
}

// refuseUnknown makes a command that has only subcommands refuse any other word, as knownCommand does, and print its help if there is none.
func refuseUnknown(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = knownCommand
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// newHelp returns the help command. Unlike cobra's, it fails for an unknown command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Print the help of a command",
		Args: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err == nil {
				err = knownCommand(found, rest)
			}
			if err != nil {
				return badUsage(found, err)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			found, _, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			found.InitDefaultHelpFlag()
			found.InitDefaultVersionFlag()
			return found.Help()
		},
	}
}

// flagError turns an error about flags into a usage error, and suggests a similar flag for an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return badUsage(cmd, err)
	}
	typed := unknown.GetSpecifiedName()
	if group := unknown.GetSpecifiedShortnames(); group != "" { // -dev is read as -d -e -v
		typed = group
	}
	typed, _, _ = strings.Cut(typed, "=")
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if similar := nearest(typed, names); similar != "" {
		err = fmt.Errorf("%w: did you mean --%s?", err, similar)
	}
	return badUsage(cmd, err)
}

// nearest returns the name that was probably meant by a misspelt one: the only name that begins with it, or else the name that differs by
// the fewest letters. At most one letter in four may differ, and one of three letters. It returns "" if there is no such name.
func nearest(typed string, names []string) (best string) {
	longer := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, typed) })
	if len(typed) > 1 && len(longer) == 1 {
		return longer[0]
	}
	limit := min(4, len(typed)/4+1)
	if len(typed) == 3 {
		limit = 2
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		if d := distance(typed, name); d < limit {
			best, limit = name, d
		}
	}
	return best
}

// distance returns how many letters to insert, delete, replace or swap with the next one to turn a into b.
func distance(a, b string) int {
	var before []int // the row for a[:i-1]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			replaced := row[j]
			if a[i] != b[j] {
				replaced++
			}
			next[j+1] = min(replaced, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
