//go:build linux

package main

import (
	"testing"

	"github.com/tidings-io/tidings/streams"
)

// A backend that may not read the stream learns that the data of a repeated id was not compared.
func TestLeastRightsDoNotCompareDuplicates(t *testing.T) {
	t.Parallel()
	server := runGuarded(t)
	gateway, _ := server.as("gateway")
	if _, err := streams.Open(t.Context(), gateway, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flag, data, want string }{
		{"--json=false", "one", "stored for alice: seq 1, id ord-991\n"},
		{"--json=false", "two", "already stored for alice: seq 1, id ord-991 (not compared: the stored data may differ)\n"},
		{"--json", "two", `{"duplicate":true,"id":"ord-991","seq":1,"unchecked":true,"user":"alice"}` + "\n"},
	} {
		if out, err := server.command("publisher", "publish", "alice", c.data, "--id", "ord-991", c.flag); err != nil || out != c.want {
			t.Errorf("%s %s: %q, %v", c.flag, c.data, out, err)
		}
	}
}
