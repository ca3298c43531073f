package main

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// serviceLink is a variable that Kubernetes sets in pods beside a Service, such as TIDINGS_NATS_PORT_4222_TCP beside tidings-nats.
var serviceLink = regexp.MustCompile(`^(TIDINGS\w*?)_(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)`)

// warnOfNoSettings tells of variables, each NAME=VALUE, that look like ours and set nothing. Their values are not told.
func warnOfNoSettings(log zerolog.Logger, cmd *cobra.Command, environment []string) {
	known := map[string]bool{keyVariable: true, "TIDINGS_LONG": true} // the latter is our tests'
	everyCommand(cmd.Root(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[environmentName(f.Name)] = true })
	})
	values := map[string]string{}
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	for _, variable := range slices.Sorted(slices.Values(environment)) {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "TIDINGS_") || known[name] {
			continue
		}
		if link := serviceLink.FindStringSubmatch(name); link != nil {
			_, beside := values[link[1]+"_SERVICE_HOST"]
			if beside || strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") {
				continue
			}
		}
		text := "no such setting: " + name
		if similar := nearest(name, known); similar != "" {
			text += " (did you mean " + similar + "?)"
		}
		log.Warn().Msg(text)
	}
}

func everyCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, do)
	}
}

// nearest is the one of the names that takes the fewest changes of a letter, of a quarter of them at most; empty: none.
func nearest(name string, names map[string]bool) (best string) {
	least := min(4, (len(name)-len("TIDINGS_"))/4+1)
	for other := range names {
		if d := distance(name, other); d < least || d == least && best != "" && cmp.Less(other, best) {
			best, least = other, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal, row[j+1] = row[j+1], min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
