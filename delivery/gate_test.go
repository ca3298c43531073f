package delivery

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/time/rate"
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

// A header is read no further than it is believed. It is not parallel, to count bytes.
func TestLongChainsOfProxiesCostNothing(t *testing.T) {
	commas := []string{strings.Repeat(",", 32<<10)}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, peer := range []string{"198.51.100.1:99", "10.0.0.1:99"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			if got := clientAddress(peer, commas, proxies); got != peer {
				t.Fatal(got)
			}
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / 100; each > 50_000 {
			t.Errorf("%s: %d bytes", peer, each)
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
	p := pace{paid: time.Since(loaded) + time.Hour, over: over}
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

// What a client waits for while something else is done, it does not wait for again.
func TestTimePaysForWhatWasRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pace{bucket: rate.NewLimiter(1000, 1000)}
		began := time.Now()
		p.charge(1000)
		p.charge(1000)
		p.charge(500)
		time.Sleep(1200 * time.Millisecond)
		p.wait()
		p.wait()
		if took := time.Since(began); took != 1500*time.Millisecond {
			t.Errorf("it is read again after %s", took)
		}
	})
}

// What a client says of itself is kept as long as its connection, and so no more of it than is of use.
func TestLongHeadersAreNotKept(t *testing.T) {
	t.Parallel()
	r := &http.Request{Header: http.Header{}}
	long := "x" + strings.Repeat("ü", 8<<10)
	r.Header.Set("Origin", long)
	r.Header.Set("User-Agent", long)
	question := questionFor(r)
	for _, kept := range []string{question.Origin, question.UserAgent} {
		if kept != long[:511] || unsafe.StringData(kept) == unsafe.StringData(long) {
			t.Errorf("%d bytes are kept", len(kept))
		}
	}
}
