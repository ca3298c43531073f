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

// everybody asks at once, each with a token and from a host of its own, and returns the errors.
func everybody(r *auth.Requester, prefix string, n int) []error {
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

// open has the breaker open: nobody listens.
func open(t *testing.T, r *auth.Requester) {
	t.Helper()
	r.SetPause(func(context.Context) {})
	eventually(t, "the breaker to open", func() bool {
		_, err := ask(r)
		var unasked *auth.Unavailable
		return errors.As(err, &unasked)
	})
}

func TestStormOnADeadResponder(t *testing.T) {
	t.Parallel()
	const storm = 2000
	s := startServer(t)
	var asked atomic.Int64
	listen(t, connect(t, s), func(*nats.Msg) { asked.Add(1) })
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 300 * time.Millisecond})
	for _, err := range everybody(r, "first", storm) {
		if !errors.Is(err, auth.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	times := map[time.Duration]bool{}
	for _, err := range everybody(r, "again", storm) {
		var unasked *auth.Unavailable
		if errors.As(err, &unasked) {
			times[unasked.RetryAfter] = true
			if unasked.RetryAfter < 500*time.Millisecond || unasked.RetryAfter > 20*time.Second {
				t.Fatal(err)
			}
		}
	}
	if len(times) < storm*9/10 {
		t.Errorf("%d different times to come again", len(times))
	}
	// Those in flight, those who got their turns before it opened, and perhaps a probe or two.
	if n := asked.Load(); n < 5 || n > 64+10 {
		t.Errorf("%d questions for %d clients", n, 2*storm)
	}
}

func TestOneProbes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * patience})
	open(t, r)
	questions := make(chan *nats.Msg, 100)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	admitted := make(chan error, 20)
	for i := range cap(admitted) {
		go func() { // comes again and again
			for {
				_, err := r.Authenticate(context.Background(), auth.Request{Token: fmt.Sprint("patient", i)})
				if unasked := (*auth.Unavailable)(nil); !errors.As(err, &unasked) {
					admitted <- err
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}
	probe := receive(t, questions, "the probe")
	for _, err := range everybody(r, "meanwhile", 200) {
		if unasked := (*auth.Unavailable)(nil); !errors.As(err, &unasked) {
			t.Fatalf("asked beside the probe: %v", err)
		}
	}
	if len(questions) > 0 {
		t.Fatalf("%d more were asked beside the probe", len(questions))
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for question := probe; ; {
			_ = question.Respond([]byte(yes))
			select {
			case question = <-questions:
			case <-stop:
				return
			}
		}
	}()
	for range cap(admitted) {
		if err := receive(t, admitted, "an answer"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPausesGrow(t *testing.T) {
	t.Parallel()
	nc := connect(t, startServer(t))
	r := auth.NewRequester(nc, auth.RequesterConfig{})
	before := time.Now() // the last question without an answer, and after it the next
	open(t, r)
	last := nc.Stats().OutMsgs
	var pauses []time.Duration
	eventually(t, "two probes", func() bool {
		began := time.Now()
		_, _ = ask(r)
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
	for name, misfortune := range map[string]func(t *testing.T, s *server.Server, r *auth.Requester){
		"one host": func(t *testing.T, s *server.Server, r *auth.Requester) {
			var all sync.WaitGroup
			for i := range many { // nobody listens
				all.Go(func() {
					_, _ = r.Authenticate(context.Background(), auth.Request{Token: fmt.Sprint("one", i), RemoteAddr: fmt.Sprintf("[2001:db8::%d]:%d", i, 1000+i)})
				})
			}
			all.Wait()
		},
		"refusals": func(t *testing.T, s *server.Server, r *auth.Requester) {
			stop := answers(t, s, `{"success":false,"error":"forbidden"}`, nil)
			everybody(r, "refused", many)
			stop()
		},
		"a responder that fails says so": func(t *testing.T, s *server.Server, r *auth.Requester) {
			stop := answers(t, s, "", nats.Header{"Nats-Service-Error": {"oops"}, "Nats-Service-Error-Code": {"500"}})
			everybody(r, "failed", many)
			stop()
		},
		"callers that leave": func(t *testing.T, s *server.Server, r *auth.Requester) {
			nc := connect(t, s)
			questions := make(chan *nats.Msg, many)
			sub, err := nc.ChanSubscribe(auth.DefaultSubject, questions)
			if err != nil || nc.Flush() != nil {
				t.Fatal(err)
			}
			for i := range many {
				ctx, cancel := context.WithCancel(context.Background())
				go func() { <-questions; cancel() }()
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
			go func() { hung.Wait(); _, _ = ask(r) }() // while they wait, another answers
			everybody(r, "hung", many)
			_ = sub.Unsubscribe()
			_ = nc.Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * time.Second})
			misfortune(t, s, r)
			answers(t, s, yes, nil)
			if _, err := ask(r); err != nil {
				t.Error(err)
			}
		})
	}
}

// answers answers everything so, until stop is called.
func answers(t *testing.T, s *server.Server, body string, header nats.Header) (stop func()) {
	t.Helper()
	nc := connect(t, s)
	answerWith(t, nc, body, header)
	return nc.Close
}

// A silence over another connection says nothing of the responder: once NATS is back it is asked at once.
func TestNATSAwayIsNoSilence(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nc := connect(t, s, nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0))
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: patience})
	var unasked *auth.Unavailable
	eventually(t, "a pause that is long", func() bool { // nobody listens
		_, err := ask(r)
		return errors.As(err, &unasked) && unasked.RetryAfter > 3*time.Second
	})
	port := s.Addr().(*net.TCPAddr).Port
	stopServer(s)
	if _, err := ask(r); !errors.As(err, &unasked) {
		t.Fatalf("the breaker is not open: %v", err)
	}
	s = startServer(t, func(o *server.Options) { o.Port = port })
	answers(t, s, yes, nil)
	eventually(t, "the connection to come back", nc.IsConnected)
	if _, err := ask(r); err != nil {
		t.Fatal(err)
	}
}

// Who looked at the connection before it was lost asks once it is back, and forgets nothing of what is known of the newer.
func TestAnOlderConnectionForgetsNothing(t *testing.T) {
	t.Parallel()
	r := auth.NewRequester(connect(t, startServer(t)), auth.RequesterConfig{})
	open(t, r)
	if r.Closed(0) || !r.Closed(1) {
		t.Fatal("another connection changes nothing")
	}
	open(t, r) // by those who saw no reconnect
	if r.Closed(1) {
		t.Error("closed, though the connection is the same")
	}
}

// Who probes in vain, or leaves before it is over, leaves the next probe to others, if there are some.
func TestOneHostDoesNotWinEachProbe(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]time.Duration{"in vain": patience, "given up": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: time.Second})
			open(t, r)
			var bad atomic.Int64
			listen(t, connect(t, s), func(m *nats.Msg) {
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
			eventually(t, "a probe in vain", func() bool { flood(); return bad.Load() == 1 })
			eventually(t, "somebody else to be admitted", func() bool {
				for range 5 { // always before them
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
