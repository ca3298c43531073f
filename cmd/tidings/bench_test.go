package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/bench"
)

func TestSignificant(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 0.00012345: "0.000123", 0.9876: "0.988", 1.23456: "1.235", 99.99: "99.99", 123.4: "123", 999.9: "1,000",
		57_123.4: "57,123", 1_234_567: "1,234,567",
	} {
		if got := significant(value); got != want {
			t.Errorf("%g: %s, want %s", value, got, want)
		}
	}
}

func TestTableOfABench(t *testing.T) {
	met, missed := true, false
	report := bench.Report{Scale: 1, Runs: 2, Took: 7, Notes: []string{"cold: not measured"}, Figures: []bench.Figure{
		{Scenario: "live", Name: "CPU", Unit: "s", Value: 3, Floor: 2, Ratio: 1.5, Target: &bench.Target{Limit: 1.2, OfFloor: true}, Met: &missed},
		{Scenario: "live", Name: "delivered", Unit: "/s", Value: 50_000},
		{Scenario: "storm", Name: "back", Unit: "/s", Value: 8000, Target: &bench.Target{Limit: 7500, Min: true}, Met: &met},
	}}
	var out bytes.Buffer
	if err := printBenchTable(&out, machine{Cores: 2, OS: "linux", Arch: "amd64", Go: "go1.26", Version: "v1.0.0", Sync: "1s"}, report); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimLeft(`
tidings v1.0.0, go1.26 linux/amd64, 2 cores, --sync 1s, scale 1, 2 runs, 7 s

SCENARIO  FIGURE     VALUE      FLOOR  RATIO  TARGET
live      CPU        3 s        2      1.50   ≤ 1.2 × floor, missed
          delivered  50,000 /s
storm     back       8,000 /s                 ≥ 7,500 /s

Messages: 0 lost, 0 repeated, 0 out of order, 0 gaps.
Note: cold: not measured
`, "\n")
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFaultsOfABenchAreAnError(t *testing.T) {
	if err := faultsOf(bench.Report{}); err != nil {
		t.Error(err)
	}
	err := faultsOf(bench.Report{Faults: bench.Faults{Lost: 3}, Details: []string{"live: of 100 messages to x 3 lost"}})
	if err == nil || !strings.Contains(err.Error(), "3 lost, 0 repeated") || !strings.Contains(err.Error(), "messages to x") {
		t.Error(err)
	}
}

func TestProgressOfABench(t *testing.T) {
	at := bench.Progress{Done: 1, Total: 4, Scenario: "live", Step: "connecting"}
	for _, test := range []struct {
		terminal bool
		want     string
	}{{false, "1/4 live: connecting\n"}, {true, "\r\x1b[K█████░░░░░░░░░░░░░░░ 1/4 live: connecting\r\x1b[K"}} {
		var out bytes.Buffer
		p := &benchProgress{&out, test.terminal}
		p.show(at)
		p.end()
		if out.String() != test.want {
			t.Errorf("%q, want %q", out.String(), test.want)
		}
	}
}
