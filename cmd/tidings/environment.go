package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// serviceLink is a variable that Kubernetes sets in pods beside a Service, such as TIDINGS_NATS_PORT_4222_TCP beside tidings-nats.
var serviceLink = regexp.MustCompile(`^(TIDINGS\w*?)_(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)`)

// warnAboutUnknownVariables logs the variables, each NAME=VALUE, that begin with TIDINGS_ but are no setting. It does not log their values,
// which may be secrets.
func warnAboutUnknownVariables(log zerolog.Logger, cmd *cobra.Command, environment []string) {
	known := map[string]bool{keyVariable: true, "TIDINGS_LONG": true} // the tests of this repository use the latter
	everyCommand(cmd.Root(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[environmentName(f.Name)] = true })
	})
	var settings []string
	for name := range known {
		settings = append(settings, strings.TrimPrefix(name, variablePrefix))
	}
	values := map[string]string{}
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	for _, variable := range slices.Sorted(slices.Values(environment)) {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, variablePrefix) || known[name] {
			continue
		}
		if link := serviceLink.FindStringSubmatch(name); link != nil {
			_, beside := values[link[1]+"_SERVICE_HOST"]
			if beside || strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") {
				continue
			}
		}
		text := "unknown setting: " + name
		if similar := nearest(strings.TrimPrefix(name, variablePrefix), settings); similar != "" {
			text += " (did you mean " + variablePrefix + similar + "?)"
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
