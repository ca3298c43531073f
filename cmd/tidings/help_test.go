package main

import (
	"bytes"
	"regexp"
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestHelpListsEveryFlagOnce counts each flag of each command in its help, and checks that the help of the gateway has them in groups.
func TestHelpListsEveryFlagOnce(t *testing.T) {
	root := newRoot()
	everyCommand(root, func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		cmd.InitDefaultHelpFlag()
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		each := func(f *pflag.Flag) {
			line := regexp.MustCompile(`(?m)^ +(-\w, )?--` + f.Name + `[ \[]`)
			if listed := len(line.FindAllString(out.String(), -1)); !f.Hidden && listed != 1 {
				t.Errorf("%s lists --%s %d times", cmd.CommandPath(), f.Name, listed)
			}
			if ungrouped := []string{"dev", "help"}; cmd.Name() == "gateway" && (headingOf(f) == "Flags") != slices.Contains(ungrouped, f.Name) {
				t.Errorf("--%s is in the group %q", f.Name, headingOf(f))
			}
		}
		cmd.LocalFlags().VisitAll(each)
		cmd.InheritedFlags().VisitAll(each)
	})
}
