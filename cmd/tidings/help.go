package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// headingKey is the flag annotation that names the flag's group in the help text.
const headingKey = "tidings_heading"

// heading puts all flags that were added since the last call into a group of the help text. Flags without a group are under "Flags".
func heading(flags *pflag.FlagSet, title string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Annotations[headingKey] == nil {
			_ = flags.SetAnnotation(f.Name, headingKey, []string{title}) // fails only for a flag that does not exist
		}
	})
}

func headingOf(f *pflag.Flag) string {
	if title := f.Annotations[headingKey]; title != nil {
		return title[0]
	}
	return "Flags"
}

// printUsage prints the usage text of a command. Unlike cobra's, it lists flags by group.
func printUsage(cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND\n", cmd.CommandPath())
	}
	if cmd.Runnable() && cmd.HasParent() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-*s  %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	b.WriteString(flagUsages(cmd))
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nUse \"%s COMMAND --help\" for more about a command.\n", cmd.CommandPath())
	}
	_, err := fmt.Fprint(cmd.OutOrStderr(), b.String())
	return err
}

// flagUsages lists the flags of a command by group, in the order in which they were added.
func flagUsages(cmd *cobra.Command) string {
	var flags []*pflag.Flag
	titles := []string{"Flags"}
	add := func(f *pflag.Flag) {
		if f.Hidden || slices.Contains(flags, f) {
			return
		}
		flags = append(flags, f)
		if title := headingOf(f); !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.VisitParents(func(parent *cobra.Command) { parent.PersistentFlags().VisitAll(add) })
	slices.SortStableFunc(flags, func(a, b *pflag.Flag) int {
		return slices.Index(titles, headingOf(a)) - slices.Index(titles, headingOf(b))
	})

	all := pflag.NewFlagSet("", pflag.ContinueOnError) // one set for all groups, so that their columns align
	all.SortFlags = false
	for _, f := range flags {
		all.AddFlag(f)
	}
	var b strings.Builder
	title := ""
	for i, line := range strings.Split(strings.TrimRight(all.FlagUsages(), "\n"), "\n") {
		if i < len(flags) && headingOf(flags[i]) != title { // line i is flag i, since each usage text is one line
			title = headingOf(flags[i])
			fmt.Fprintf(&b, "\n%s:\n", title)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}
