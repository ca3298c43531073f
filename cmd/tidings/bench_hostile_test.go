//go:build linux

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/bench"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// TestSiege runs a thousand hostile connections beside a hundred users. Each message to these users must arrive once
// and in order, other users must be able to connect during the attack, and the gateway must release the attackers'
// memory afterwards.
func TestSiege(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("takes half a minute: TIDINGS_LONG=1")
	}
	cmd := exec.Command("tidings", "bench", "--local", "--only", "hostile", "--scale", "0.1", "--json")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output() // exit code 1 if a message was lost, repeated or out of order
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	var report bench.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	figures := map[string]float64{}
	for _, f := range report.Figures {
		figures[f.Name] = f.Value
		t.Logf("%s: %.4g %s, %.4g", f.Name, f.Value, f.Unit, f.Floor)
	}
	bounds := map[string][2]float64{
		"hostile connections attempted":             {1000, 1e6},
		"hostile connections open at once, maximum": {100, 1000},
		"connect of a known user during the attack": {0, 10_000},
		"time until these have recovered":           {0, 30},
	}
	unknown := newGateway().Flags().Lookup("admin-listen") == nil // then the gateway does not report its memory
	if unknown {
		delete(bounds, "time until these have recovered")
	}
	for name, bound := range bounds {
		if value, known := figures[name]; !known || value < bound[0] || value > bound[1] {
			t.Errorf("%s: %g (known: %t), want %g to %g", name, value, known, bound[0], bound[1])
		}
	}
	for _, note := range report.Notes {
		if !unknown {
			t.Error(note)
		}
	}
}
