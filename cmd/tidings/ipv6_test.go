//go:build linux

package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// Everything works over IPv6, and the printed commands can be pasted.
func TestIPv6(t *testing.T) {
	streamstest.BesideOthers(t)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("there is no ::1 here:", err)
	}
	l.Close()
	g := runGateway(t, "--dev", "--data", t.TempDir(), "--listen", "[::1]:0", "--admin-listen", "[::1]:0", "--nats-host", "::1", "--nats-port", "-1")
	ready(t, g.admin(), "")
	printed, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	find := func(what string) string {
		t.Helper()
		found := regexp.MustCompile(what).FindSubmatch(printed)
		if found == nil {
			t.Fatalf("it does not print %s", what)
		}
		return string(found[1])
	}
	page := find(`Demo page: (http://\[::1\]:\d+/)`)
	if status, body, err := get(page); err != nil || status != http.StatusOK || !strings.Contains(body, "Tidings") {
		t.Errorf("the demo page: %d %v", status, err)
	}
	if at := find(`Bearer \$KEY" (http://\S+/)v1/notifications`); at != page {
		t.Errorf("notifications go to %s", at)
	}
	for _, command := range []string{find(`tidings (publish alice .* --nats nats://\[::1\]:\d+)`), find(`tidings (listen .* --url ws://\[::1\]:\d+)`) + " --count 1"} {
		out, err := exec.Command("tidings", strings.Fields(strings.ReplaceAll(command, "'", ""))...).CombinedOutput()
		if err != nil || strings.HasPrefix(command, "listen") && !strings.Contains(string(out), `{"order":991}`) {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
}
