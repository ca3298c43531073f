package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/streams"
)

// Doctor accepts all flags of a gateway, and rejects what a gateway rejects.
func TestDoctorTakesAGatewaysFlags(t *testing.T) {
	doctor, _, err := newRoot().Find([]string{"doctor"})
	if err != nil {
		t.Fatal(err)
	}
	newGateway().Flags().VisitAll(func(f *pflag.Flag) {
		if has := doctor.Flag(f.Name); has == nil || has.DefValue != f.DefValue {
			t.Errorf("--%s: %+v", f.Name, has)
		}
	})
	for flags, want := range map[string]string{
		"--listen 0.0.0.0:80":            "--tls-by-proxy",
		"--nats a --data b":              "exclude each other",
		"--dev --nats-host 0.0.0.0":      "not allowed with --dev",
		"--trusted-proxy nobody":         "not an address or a network",
		"--log-level loud":               "use trace",
		"--auth-timeout 0s":              "must be positive",
		"--data x --nats-host 192.0.2.1": "public address without credentials",
		"--tls-cert x":                   "belong together",
		"--token-cookie session":         "without --origin",
	} {
		root := newRoot()
		root.SetArgs(append([]string{"doctor"}, strings.Fields(flags)...))
		var usage *usageError
		if err := root.ExecuteContext(t.Context()); !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flags, err, want)
		}
	}
}

// The sample output in MONITORING.md is what doctor prints, apart from what depends on the machine.
func TestMonitoringShowsDoctor(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("deploy", "MONITORING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(readme), "\n$ go run ./cmd/tidings doctor ")
	shown, _, _ = strings.Cut(shown, "```")
	lines := strings.Split(strings.TrimSpace(shown), "\n")[1:]
	checks := (&doctor{}).checks()
	if len(lines) != len(checks)+1 {
		t.Fatalf("%d lines for %d checks", len(lines), len(checks))
	}
	failed := 0
	for i, check := range checks {
		fields := strings.Fields(lines[i])
		if fields[1] != check.name {
			t.Errorf("%q stands where %s is", lines[i], check.name)
		}
		if fields[0] == isBad {
			failed++
		}
		if want := filesFinding(20_000, 0)[0]; check.name == "files" && !strings.HasSuffix(lines[i], want.Found) {
			t.Errorf("%q, and not %q", lines[i], want.Found)
		}
	}
	if want := fmt.Sprintf("tidings: %d of %d checks failed", failed, len(checks)); lines[len(checks)] != want {
		t.Errorf("%q, and not %q", lines[len(checks)], want)
	}
	if least := fmt.Sprintf("set max_payload of the server to %d or more", streams.Config{MaxNotification: 2_000_000}.MaxMessage()); !strings.Contains(shown, least) {
		t.Errorf("it does not say %q", least)
	}
}
