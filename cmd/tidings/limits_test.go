package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/delivery"
)

func parseLimits(t *testing.T, args ...string) (*limitFlags, error) {
	t.Helper()
	l, flags := &limitFlags{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	l.add(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return l, l.check()
}

func TestLimitFlags(t *testing.T) {
	l, err := parseLimits(t)
	if err != nil {
		t.Fatal(err)
	}
	got, want := l.limits(false), delivery.DefaultLimits()
	if files, known := fileLimit(); (got.Connections > 0) != known || known && uint64(got.Connections) >= files {
		t.Errorf("%d connections with %d files", got.Connections, files)
	}
	if got.ConnectionsPerAddress != want.ConnectionsPerAddress || got.SendRate != want.SendRate || got.FailedAuthRate != want.FailedAuthRate {
		t.Errorf("%+v, want %+v", got, want)
	}
	dev := l.limits(true)
	if dev.ConnectionsPerAddress+dev.UnauthenticatedPerAddress != 0 || dev.ConnectRate+dev.FailedAuthRate != 0 || dev.SendRate != want.SendRate {
		t.Errorf("--dev: %+v", dev)
	}
	asked, err := parseLimits(t, "--connect-rate", "2", "--max-connections-per-address", "3")
	if err != nil {
		t.Fatal(err)
	}
	if dev := asked.limits(true); dev.ConnectRate != 2 || dev.ConnectionsPerAddress != 3 || dev.UnauthenticatedPerAddress != 0 {
		t.Errorf("--dev with limits: %+v", dev)
	}
	for files, connections := range map[uint64]int{20: 1, 1024: 796, 20_000: 17_400, 1 << 63: 939_523_996} {
		if n := connectionsWithin(files); n != connections {
			t.Errorf("with %d files %d connections, want %d", files, n, connections)
		}
	}
	for files, sockets := range map[uint64]int{0: 0, 20: 10, 1024: 910, 20_000: 18_700} {
		if n := socketsWithin(files, files > 0); n != sockets {
			t.Errorf("with %d files %d sockets, want %d", files, n, sockets)
		}
	}
	l, err = parseLimits(t, "--max-connections", "7", "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1", "--trusted-proxy", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, p := range l.limits(false).TrustedProxies {
		text += p.String() + " "
	}
	if text != "10.0.0.0/8 ::1/128 192.0.2.1/32 " || l.limits(false).Connections != 7 {
		t.Errorf("proxies %s, %+v", text, l.limits(false))
	}
	for _, wrong := range [][]string{
		{"--max-connections", "-1"}, {"--connect-rate", "-0.5"}, {"--failed-auth-rate", "NaN"}, {"--send-rate", "100"}, {"--trusted-proxy", "10.0.0.0/99"},
		{"--trusted-proxy", "proxy.example"}, {"--trusted-proxy", ""},
	} {
		if _, err := parseLimits(t, wrong...); err == nil || !strings.Contains(err.Error(), wrong[0]) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
