package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
)

// authenticateAll sends n requests at once, each with its own token and host, and returns the
// errors.
func authenticateAll(r *auth.Requester, prefix string, n int) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			_, errs[i] = r.Authenticate(context.Background(), auth.Request{Token: fmt.Sprint(prefix, i), RemoteAddr: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)})
		})
	}
	all.Wait()
	return errs
}

// openBreaker makes requests without a responder until the breaker is open.
func openBreaker(t *testing.T, r *auth.Requester) {
	t.Helper()
	r.SetPause(func(context.Context) {})
	eventually(t, "the breaker to open", func() bool {
		_, err := authenticate(r)
		var notSent *auth.Unavailable
		return errors.As(err, &notSent)
	})
}

func TestStormWithHungResponder(t *testing.T) {
	t.Parallel()
	const storm = 2000
	s := startServer(t)
	var asked atomic.Int64
	subscribe(t, connect(t, s), func(*nats.Msg) { asked.Add(1) })
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 300 * time.Millisecond})
	for _, err := range authenticateAll(r, "first", storm) {
		if !errors.Is(err, auth.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	times := map[time.Duration]bool{}
	for _, err := range authenticateAll(r, "again", storm) {
		var notSent *auth.Unavailable
		if errors.As(err, &notSent) {
			times[notSent.RetryAfter] = true
			if notSent.RetryAfter < 500*time.Millisecond || notSent.RetryAfter > 20*time.Second {
				t.Fatal(err)
			}
		}
	}
	if len(times) < storm*9/10 {
		t.Errorf("%d different retry times", len(times))
	}
	// Requests in flight, those that got slots before the breaker opened, and perhaps a probe or two.
	if n := asked.Load(); n < 5 || n > 64+10 {
		t.Errorf("%d requests for %d clients", n, 2*storm)
	}
}

func TestOneRequestProbes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * timeout})
	openBreaker(t, r)
	requests := make(chan *nats.Msg, 100)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	admitted := make(chan error, 20)
	for i := range cap(admitted) {
		go func() { // retries without a pause
			for {
				_, err := r.Authenticate(context.Background(), auth.Request{Token: fmt.Sprint("retrying", i)})
				if notSent := (*auth.Unavailable)(nil); !errors.As(err, &notSent) {
					admitted <- err
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}
	probe := receive(t, requests, "the probe")
	for _, err := range authenticateAll(r, "meanwhile", 200) {
		if notSent := (*auth.Unavailable)(nil); !errors.As(err, &notSent) {
			t.Fatalf("sent beside the probe: %v", err)
		}
	}
	if len(requests) > 0 {
		t.Fatalf("%d requests beside the probe", len(requests))
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for request := probe; ; {
			_ = request.Respond([]byte(yes))
			select {
			case request = <-requests:
			case <-stop:
				return
			}
		}
	}()
	for range cap(admitted) {
		if err := receive(t, admitted, "a reply"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPausesGrow(t *testing.T) {
	t.Parallel()
	nc := connect(t, startServer(t))
	r := auth.NewRequester(nc, auth.RequesterConfig{})
	before := time.Now() // the start of the last request without a reply
	openBreaker(t, r)
	last := nc.Stats().OutMsgs
	var pauses []time.Duration
	eventually(t, "two probes", func() bool {
		began := time.Now()
		_, _ = authenticate(r)
		if now := nc.Stats().OutMsgs; now > last {
			if now != last+1 {
				t.Errorf("%d probes at once", now-last)
			}
			last, pauses, before = now, append(pauses, time.Since(before)), began
		}
		return len(pauses) == 2
	})
	if pauses[0] < 750*time.Millisecond || pauses[1] < 1500*time.Millisecond {
		t.Errorf("probes after %v", pauses)
	}
}

func TestWhatDoesNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	const many = 20
	for name, cause := range map[string]func(t *testing.T, s *server.Server, r *auth.Requester){
		"one host": func(t *testing.T, s *server.Server, r *auth.Requester) {
			var all sync.WaitGroup
			for i := range many { // no responder
				all.Go(func() {
					_, _ = r.Authenticate(context.Background(), auth.Request{Token: fmt.Sprint("one", i), RemoteAddr: fmt.Sprintf("[2001:db8::%d]:%d", i, 1000+i)})
				})
			}
			all.Wait()
		},
		"refusals": func(t *testing.T, s *server.Server, r *auth.Requester) {
			stop := answers(t, s, `{"success":false,"error":"forbidden"}`, nil)
			authenticateAll(r, "refused", many)
			stop()
		},
		"a responder that reports failures": func(t *testing.T, s *server.Server, r *auth.Requester) {
			stop := answers(t, s, "", nats.Header{"Nats-Service-Error": {"oops"}, "Nats-Service-Error-Code": {"500"}})
			authenticateAll(r, "failed", many)
			stop()
		},
		"callers that leave": func(t *testing.T, s *server.Server, r *auth.Requester) {
			nc := connect(t, s)
			requests := make(chan *nats.Msg, many)
			sub, err := nc.ChanSubscribe(auth.DefaultSubject, requests)
			if err != nil || nc.Flush() != nil {
				t.Fatal(err)
			}
			for i := range many {
				ctx, cancel := context.WithCancel(context.Background())
				go func() { <-requests; cancel() }()
				if _, err := r.Authenticate(ctx, auth.Request{Token: fmt.Sprint("left", i)}); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			_ = sub.Unsubscribe()
			_ = nc.Flush()
		},
		"one of several that hangs": func(t *testing.T, s *server.Server, r *auth.Requester) {
			nc := connect(t, s)
			var hung sync.WaitGroup
			hung.Add(many)
			sub, err := nc.Subscribe(auth.DefaultSubject, func(m *nats.Msg) {
				if string(m.Data) == "token-1" {
					_ = m.Respond([]byte(yes))
				} else {
					hung.Done()
				}
			})
			if err != nil || nc.Flush() != nil {
				t.Fatal(err)
			}
			go func() { hung.Wait(); _, _ = authenticate(r) }() // another responder replies while they wait
			authenticateAll(r, "hung", many)
			_ = sub.Unsubscribe()
			_ = nc.Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * time.Second})
			cause(t, s, r)
			answers(t, s, yes, nil)
			if _, err := authenticate(r); err != nil {
				t.Error(err)
			}
		})
	}
}

// answers replies to every request with body and header, until stop is called.
func answers(t *testing.T, s *server.Server, body string, header nats.Header) (stop func()) {
	t.Helper()
	nc := connect(t, s)
	answerWith(t, nc, body, header)
	return nc.Close
}

// Silence on a lost connection says nothing about the responder: after a reconnect to NATS,
// requests are sent at once.
func TestReconnectResetsBreaker(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nc := connect(t, s, nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0))
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: timeout})
	var notSent *auth.Unavailable
	eventually(t, "a long pause", func() bool { // no responder
		_, err := authenticate(r)
		return errors.As(err, &notSent) && notSent.RetryAfter > 3*time.Second
	})
	port := s.Addr().(*net.TCPAddr).Port
	stopServer(s)
	if _, err := authenticate(r); !errors.As(err, &notSent) {
		t.Fatalf("the breaker is not open: %v", err)
	}
	s = startServer(t, func(o *server.Options) { o.Port = port })
	answers(t, s, yes, nil)
	eventually(t, "the connection to come back", nc.IsConnected)
	if _, err := authenticate(r); err != nil {
		t.Fatal(err)
	}
}

// A caller that read the connection generation before a reconnect does not reset what is known
// about the new connection.
func TestOlderConnectionDoesNotResetBreaker(t *testing.T) {
	t.Parallel()
	r := auth.NewRequester(connect(t, startServer(t)), auth.RequesterConfig{})
	openBreaker(t, r)
	if r.Allowed(0) || !r.Allowed(1) {
		t.Fatal("a new connection does not reset the breaker")
	}
	openBreaker(t, r) // with the generation from before the reconnect
	if r.Allowed(1) {
		t.Error("the breaker is closed, although the connection is the same")
	}
}

// A host whose probe had no reply, or that left before it ended, leaves the next probe to other
// hosts, if there are any.
func TestOneHostDoesNotGetEveryProbe(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]time.Duration{"no reply": timeout, "abandoned": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: time.Second})
			openBreaker(t, r)
			var bad atomic.Int64
			subscribe(t, connect(t, s), func(m *nats.Msg) {
				if string(m.Data) == "good" {
					_ = m.Respond([]byte(yes))
				} else {
					bad.Add(1)
				}
			})
			flood := func() {
				ctx, cancel := context.WithTimeout(context.Background(), stays)
				defer cancel()
				_, _ = r.Authenticate(ctx, auth.Request{Token: fmt.Sprint("bad", bad.Load()), RemoteAddr: "203.0.113.7:1000"})
			}
			eventually(t, "a probe without a reply", func() bool { flood(); return bad.Load() == 1 })
			eventually(t, "another host to be admitted", func() bool {
				for range 5 { // always before the other host
					flood()
					time.Sleep(time.Millisecond)
				}
				_, err := r.Authenticate(context.Background(), auth.Request{Token: "good", RemoteAddr: "192.0.2.1:1000"})
				return err == nil
			})
			if n := bad.Load(); n != 1 {
				t.Errorf("one host probed %d times in a row", n)
			}
		})
	}
}
