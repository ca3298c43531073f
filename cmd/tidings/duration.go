package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/streams"
)

// durationFlag is a duration flag that accepts days and weeks too.
type durationFlag time.Duration

// durationVar adds a duration flag. Use it in place of pflag's DurationVar.
func durationVar(flags *pflag.FlagSet, d *time.Duration, name string, otherwise time.Duration, usage string) {
	*d = otherwise
	flags.Var((*durationFlag)(d), name, usage)
}

func (d *durationFlag) Type() string { return "duration" }

func (d *durationFlag) String() string {
	if *d == 0 {
		return "0" // pflag does not show "0" as a default in the help text, but would show "0s"
	}
	return time.Duration(*d).String()
}

func (d *durationFlag) Set(value string) error {
	parsed, err := streams.ParseDuration(value)
	*d = durationFlag(parsed)
	return err
}
