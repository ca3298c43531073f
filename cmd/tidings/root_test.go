package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestEveryFlagHasAVariable sets each flag of each command by its environment variable alone, and then against it.
func TestEveryFlagHasAVariable(t *testing.T) {
	// For each type of flag: what the variable says, what the flag then is, what the command line says, what it then is.
	values := map[string][4]string{
		"string":      {"x", "x", "y", "y"},
		"bool":        {"1", "true", "false", "false"},
		"int":         {"7", "7", "8", "8"},
		"int64":       {"7", "7", "8", "8"},
		"duration":    {"7d", "168h0m0s", "1d12h", "36h0m0s"},
		"float64":     {"7", "7", "0.5", "0.5"},
		"intSlice":    {"7,8", "[7,8]", "9", "[9]"},
		"stringArray": {"x,y", "[x,y]", "z", "[z]"},
		"stringSlice": {"x,y", "[x,y]", "z", "[z]"},
		"when":        {"7s", "7s", "always", "always"},
	}
	for _, name := range []string{"TIDINGS_NATS_USER", "TIDINGS_NATS_CERT", "TIDINGS_NATS_KEY"} { // without which others are refused
		t.Setenv(name, "x")
	}
	tested := 0
	everyCommand(newRoot(), func(cmd *cobra.Command) {
		visit := func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			tested++
			name := environmentName(f.Name)
			t.Run(cmd.Name()+"/"+name, func(t *testing.T) {
				v, ok := values[f.Value.Type()]
				if !ok {
					t.Fatalf("no value for flags of type %s", f.Value.Type())
				}
				t.Setenv(name, v[0])
				if got := flagOf(t, cmd.CommandPath(), f.Name); got != v[1] {
					t.Errorf("--%s is %s with %s=%s, want %s", f.Name, got, name, v[0], v[1])
				}
				if got := flagOf(t, cmd.CommandPath(), f.Name, "--"+f.Name+"="+v[2]); got != v[3] {
					t.Errorf("--%s is %s where the command line says %s, want %s", f.Name, got, v[2], v[3])
				}
			})
		}
		cmd.LocalFlags().VisitAll(visit)
		cmd.InheritedFlags().VisitAll(visit)
	})
	if tested < 70 {
		t.Errorf("only %d flags seen", tested)
	}
}

// flagOf is the value that a flag has when the command at the path, called so, begins to run.
func flagOf(t *testing.T, path, flag string, args ...string) (value string) {
	t.Helper()
	root := newRoot()
	args = append(strings.Fields(path)[1:], args...)
	cmd, _, err := root.Find(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = nil
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		value = cmd.Flag(flag).Value.String()
		return nil
	}
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestRedacted(t *testing.T) {
	for url, want := range map[string]string{
		"nats://127.0.0.1:4222":           "nats://127.0.0.1:4222",
		"nats://app:secret@n1:4222":       "nats://xxxxx@n1:4222",
		"secret@n1":                       "xxxxx@n1",
		"tls://secret@n1,tls://a:b@c@n2":  "tls://xxxxx@n1,tls://xxxxx@n2",
		"n1:4222,nats://secret@n2,tls://": "n1:4222,nats://xxxxx@n2,tls://",
	} {
		if got := redacted(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
