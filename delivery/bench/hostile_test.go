package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestOnlyLoopbackMayBeAttacked(t *testing.T) {
	for _, target := range []string{"", ":80", "192.0.2.1:80", "[2001:db8::1]:80", "0.0.0.0:80", "127.0.0.1"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := ServeAttackers(t.Context(), listener, target, 1); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%q: %v", target, err)
		}
		_ = listener.Close()
	}
}

// TestAttackersConnectAndStop runs each kind of attacker against a server that never closes a connection, and then
// stops them.
func TestAttackersConnectAndStop(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	floor, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served, attacked := make(chan error, 1), make(chan error, 1)
	go func() { served <- ServeSockets(ctx, floor) }()
	go func() { attacked <- ServeAttackers(ctx, listener, floor.Addr().String(), len(attacks)) }()
	s := &Server{URL: "ws://" + listener.Addr().String()}
	// 11 kinds start with an upgrade, 2 more send one slowly, and one is refused because it does not send HTTP.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := s.crowd(ctx)
		if err == nil && c.Connected >= int64(len(attacks)) && c.Upgraded >= 11 && c.Refused >= 1 && c.MaxHeld >= 11 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	cancel()
	for _, ended := range []chan error{served, attacked} {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the server or the attackers did not stop")
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestFootprint(t *testing.T) {
	metrics := "# TYPE go_goroutines gauge\ngo_goroutines 42\ngo_memstats_heap_inuse_bytes 1.048576e+06\n" +
		"go_memstats_stack_inuse_bytes 65536\ntidings_connections{state=\"live\"} 7\n"
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if r.URL.Path == "/metrics" {
			fmt.Fprint(w, metrics)
		}
	}))
	defer server.Close()
	f := (&Server{Admin: server.URL}).footprint(t.Context())
	if !f.known() || f.goroutines != 42 || f.heap != 1<<20 || f.stacks != 1<<16 || strings.Join(asked, " ") != "/debug/pprof/heap?gc=1 /metrics" {
		t.Errorf("%+v, asked for %q", f, asked)
	}
	for goroutines, near := range map[float64]bool{42: true, 60: true, 70: false} {
		now := f
		if now.goroutines = goroutines; now.near(f) != near {
			t.Errorf("%g goroutines after 42: near %t", goroutines, !near)
		}
	}
	metrics = "starting\n"
	for _, unknown := range []*Server{{}, {Admin: server.URL}, {Admin: "http://127.0.0.1:1"}} {
		if f := unknown.footprint(t.Context()); f.known() || f.near(f) {
			t.Errorf("%+v is known", f)
		}
	}
}
