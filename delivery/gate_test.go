package delivery

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func TestAddressesBehindProxies(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                     {"198.51.100.1:99", nil, "198.51.100.1:99"},
		"no proxy, spoofed":            {"198.51.100.1:99", []string{"203.0.113.7"}, "198.51.100.1:99"},
		"not a proxy, names one":       {"198.51.100.1:99", []string{"203.0.113.7, 10.0.0.1"}, "198.51.100.1:99"},
		"a proxy that says nothing":    {"10.0.0.1:99", nil, "10.0.0.1:99"},
		"a proxy":                      {"10.0.0.1:99", []string{"203.0.113.7"}, "203.0.113.7"},
		"the client spoofs":            {"10.0.0.1:99", []string{"192.0.2.1, 203.0.113.7"}, "203.0.113.7"},
		"the client spoofs a proxy":    {"10.0.0.1:99", []string{"192.0.2.1, 10.9.9.9, 203.0.113.7"}, "203.0.113.7"},
		"two proxies":                  {"10.0.0.1:99", []string{"192.0.2.1,203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"two lines":                    {"10.0.0.1:99", []string{"192.0.2.1, 203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		"a client among the proxies":   {"10.0.0.1:99", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"rubbish":                      {"10.0.0.1:99", []string{"203.0.113.7, unknown"}, "10.0.0.1:99"},
		"rubbish behind a proxy":       {"10.0.0.1:99", []string{"203.0.113.7, , 10.0.0.2"}, "10.0.0.2"},
		"rubbish before the client":    {"10.0.0.1:99", []string{"<script>, 203.0.113.7"}, "203.0.113.7"},
		"with a port":                  {"10.0.0.1:99", []string{"203.0.113.7:1234"}, "203.0.113.7"},
		"IPv6":                         {"[fd00::1]:99", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv6 with a port":             {"[fd00::1]:99", []string{"[2001:db8::7]:1234"}, "2001:db8::7"},
		"IPv4 in IPv6":                 {"[::ffff:10.0.0.1]:99", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		"a zone does not hide a proxy": {"[fd00::1%eth0]:99", []string{"203.0.113.7"}, "203.0.113.7"},
		"a Unix socket":                {"@", []string{"203.0.113.7"}, "@"},
	} {
		if got := clientAddress(c.peer, c.forwarded, proxies); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestAnAddressOfIPv6IsItsNetwork(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "192.0.2.1": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::", "2001:db8:1:2::9": "2001:db8:1:2::",
		"[fe80::1%eth0]:80": "fe80::", "[::ffff:192.0.2.1]:80": "192.0.2.1", "@": "invalid IP", "": "invalid IP",
	} {
		if got := addressOf(remote).String(); got != want {
			t.Errorf("%q is %s, want %s", remote, got, want)
		}
	}
}

// However many addresses come, no more of them are remembered than that; and who came last is, while one more comes.
func TestTablesOfRatesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBuckets[netip.Addr](0.001)
	address := func(n int) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(n+1))))
	}
	for n := range 2 * bucketsMost {
		if !b.take(address(n)) || b.take(address(n)) {
			t.Fatalf("address %d: its bucket holds not one", n)
		}
	}
	if n := b.by.Len(); n != bucketsMost {
		t.Errorf("%d are remembered, want %d", n, bucketsMost)
	}
	if last := 2*bucketsMost - 1; b.take(address(last)) || !b.empty(address(last)) {
		t.Error("who came last is forgotten")
	}
	if b.empty(address(0)) || !b.take(address(0)) {
		t.Error("who is forgotten does not begin with a full bucket")
	}
}

// Who waits for its turn to be read ends with its session.
func TestAWaitEndsWithTheSession(t *testing.T) {
	t.Parallel()
	over, waited := make(chan struct{}), make(chan struct{})
	p := pace{debt: time.Hour, over: over}
	go func() {
		defer close(waited)
		p.wait()
	}()
	select {
	case <-waited:
		t.Fatal("it did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(over)
	select {
	case <-waited:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits on")
	}
}
