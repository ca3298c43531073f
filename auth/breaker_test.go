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

// everybody asks at once, each with a token of its own, and returns the errors.
func everybody(r *auth.Requester, prefix string, n int) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			_, errs[i] = r.Authenticate(context.Background(), auth.Request{Token: fmt.Sprint(prefix, i)})
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
	open(t, r)
	var probes []time.Time
	last := nc.Stats().OutMsgs
	opened := time.Now()
	eventually(t, "two probes", func() bool {
		_, _ = ask(r)
		if now := nc.Stats().OutMsgs; now > last {
			if now != last+1 {
				t.Errorf("%d probes at once", now-last)
			}
			last, probes = now, append(probes, time.Now())
		}
		return len(probes) == 2
	})
	if first, second := probes[0].Sub(opened), probes[1].Sub(probes[0]); first < 700*time.Millisecond || second < 1400*time.Millisecond {
		t.Errorf("probes after %v and %v", first, second)
	}
}

func TestWhatDoesNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	const many = 20
	for name, misfortune := range map[string]func(t *testing.T, s *server.Server, r *auth.Requester){
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
			for range many {
				ctx, cancel := context.WithCancel(context.Background())
				go func() { <-questions; cancel() }()
				if _, err := r.Authenticate(ctx, auth.Request{Token: "token-1"}); !errors.Is(err, context.Canceled) {
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

// A silence while NATS is away says nothing of the responder: once NATS is back it is asked at once.
func TestNATSAwayIsNoSilence(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nc := connect(t, s, nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0))
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: 100 * time.Millisecond})
	var asked sync.WaitGroup
	asked.Add(10)
	listen(t, connect(t, s), func(*nats.Msg) { asked.Done() })
	pending := make(chan []error, 1)
	go func() { pending <- everybody(r, "pending", 10) }()
	asked.Wait()
	port := s.Addr().(*net.TCPAddr).Port
	stopServer(s)
	for _, err := range receive(t, pending, "those who waited") {
		if !errors.Is(err, auth.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	s = startServer(t, func(o *server.Options) { o.Port = port })
	answers(t, s, yes, nil)
	eventually(t, "the connection to come back", nc.IsConnected)
	if _, err := ask(r); err != nil {
		t.Fatal(err)
	}
}
