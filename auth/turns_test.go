package auth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
)

// One address sends as many tokens as it can to which the backend never replies. Other hosts are
// still admitted.
func TestOneHostDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	const slots = 8
	s := startServer(t)
	bad := make(chan struct{}, 10_000)
	subscribe(t, connect(t, s), func(m *nats.Msg) {
		if m.Header.Get("Tidings-Remote-Addr") == "203.0.113.7:1000" {
			bad <- struct{}{}
		} else {
			_ = m.Respond([]byte(yes))
		}
	})
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 1500 * time.Millisecond, MaxInFlight: slots, MaxWait: timeout})
	ctx, cancel := context.WithCancel(context.Background())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer cancel()
	for i := range 20 * slots { // alone they take longer than MaxWait
		flood.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, _ = r.Authenticate(ctx, auth.Request{Token: fmt.Sprint(i, n), RemoteAddr: "203.0.113.7:1000"})
			}
		})
	}
	for wave := range 2 {
		for range slots { // all slots are taken
			receive(t, bad, "the flood")
		}
		var logins sync.WaitGroup
		for i := range 20 {
			logins.Go(func() {
				req := auth.Request{Token: fmt.Sprint("good", i), RemoteAddr: fmt.Sprintf("192.0.2.%d:1000", i), Renew: i%2 == 0}
				if _, err := r.Authenticate(context.Background(), req); err != nil {
					t.Errorf("wave %d, login %d: %v", wave, i, err)
				}
			})
		}
		logins.Wait()
	}
}

func TestHostsTakeTurns(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	requests := make(chan *nats.Msg, 100)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	for name, test := range map[string]struct {
		arrive, served []string
		hosts          int
	}{
		"one that floods": {
			[]string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1", "[::ffff:192.0.2.1]:4", "192.0.2.3:1", "192.0.2.3"},
			[]string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.1:2", "192.0.2.3", "192.0.2.1:3", "[::ffff:192.0.2.1]:4"}, 3,
		},
		"an IPv6 network": {
			[]string{"[2001:db8::1]:1", "[2001:db8::2]:1", "2001:db8::3", "[2001:db8:0:1::1]:1"},
			[]string{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", "[2001:db8::2]:1", "2001:db8::3"}, 2,
		},
		"this machine": {
			[]string{"127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "[::1]:2", "192.0.2.1:1"},
			[]string{"127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "[::1]:2", "192.0.2.1:1"}, 5,
		},
		"unknown address": {[]string{"", "@", "", "pipe"}, []string{"", "@", "pipe", ""}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * timeout, MaxInFlight: 1, MaxWait: 2 * timeout})
			var all sync.WaitGroup
			defer all.Wait()
			call := func(ctx context.Context, token, remote string) {
				all.Go(func() { _, _ = r.Authenticate(ctx, auth.Request{Token: token, RemoteAddr: remote}) })
			}
			call(context.Background(), "first", "192.0.2.1:1")
			request := receive(t, requests, "the first request")
			leaving, leave := context.WithCancel(context.Background())
			for i, remote := range test.arrive {
				call(context.Background(), fmt.Sprint(i), remote)
				eventually(t, "the caller to wait", func() bool { n, _ := r.Queued(); return n == i+1 })
			}
			call(leaving, "leaves", test.arrive[0])
			call(leaving, "leaves too", "198.51.100.1:1")
			eventually(t, "the callers that leave to wait", func() bool { n, _ := r.Queued(); return n == len(test.arrive)+2 })
			leave()
			eventually(t, "the callers that leave to be gone", func() bool { n, _ := r.Queued(); return n == len(test.arrive) })
			if _, hosts := r.Queued(); hosts != test.hosts {
				t.Errorf("%d hosts wait, want %d", hosts, test.hosts)
			}
			var served []string
			for range test.arrive {
				_ = request.Respond([]byte(yes))
				request = receive(t, requests, "the next request")
				served = append(served, request.Header.Get("Tidings-Remote-Addr"))
			}
			_ = request.Respond([]byte(yes))
			if !slices.Equal(served, test.served) {
				t.Errorf("served %q, want %q", served, test.served)
			}
			if n, hosts := r.Queued(); n != 0 || hosts != 0 {
				t.Errorf("%d callers of %d hosts are left", n, hosts)
			}
		})
	}
}

// A slot may be assigned at the moment at which its caller leaves.
func TestSlotIsNotLost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	answerWith(t, connect(t, s), yes, nil)
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: timeout, MaxInFlight: 2, MaxWait: timeout})
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%5)*time.Millisecond)
			defer cancel()
			_, err := r.Authenticate(ctx, auth.Request{Token: fmt.Sprint(i), RemoteAddr: fmt.Sprintf("192.0.2.%d:1", i%7)})
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	eventually(t, "all slots to be free", func() bool { return r.Free() == 2 })
}
