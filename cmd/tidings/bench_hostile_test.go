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

// A thousand hostile connections beside a hundred users: each message of theirs arrives once and in order, users who come meanwhile get
// in, and what the gateway held for the attackers it gives back.
func TestSiege(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("takes half a minute: TIDINGS_LONG=1")
	}
	cmd := exec.Command("tidings", "bench", "--local", "--only", "hostile", "--scale", "0.1", "--json")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output() // exit code 1 where a message was lost, came twice or out of order
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, said.String())
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
		"hostile connections that were tried":          {1000, 1e6},
		"hostile connections held at once, at most":    {100, 1000},
		"a known user who comes meanwhile, until live": {0, 10_000},
		"until these are back":                         {0, 30},
	}
	unknown := newGateway().Flags().Lookup("admin-listen") == nil // then a gateway says nothing of what it holds
	if unknown {
		delete(bounds, "until these are back")
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
