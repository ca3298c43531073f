package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what it was built with",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "tidings", fullVersion())
			return err
		},
	}
}

// fullVersion returns the version with the Go version and platform of the build.
func fullVersion() string {
	return fmt.Sprintf("%s (%s %s/%s)", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// version returns what the Go toolchain recorded: the version of the module, or the commit of the checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

// semver returns the version in the form that NATS services require.
func semver() string {
	if v := regexp.MustCompile(`^v?(\d+\.\d+\.\d+)`).FindStringSubmatch(version()); v != nil {
		return v[1]
	}
	return "0.0.0"
}
