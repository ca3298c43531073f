package auth_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/tidings-io/tidings/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout bounds every wait for something that must happen.
const timeout = 10 * time.Second

// startServer runs a NATS server in this process until the test ends.
func startServer(t *testing.T, options ...func(*server.Options)) *server.Server {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true}
	for _, option := range options {
		option(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stopServer(s) })
	if !s.ReadyForConnections(timeout) {
		t.Fatal("the NATS server did not start")
	}
	return s
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func connect(t *testing.T, s *server.Server, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// serve runs a Responder until the test ends or stop is called. It returns when the responder is
// ready.
func serve(t *testing.T, nc *nats.Conn, a auth.Authenticator, cfg auth.ResponderConfig) (r *auth.Responder, stop func()) {
	t.Helper()
	r = auth.NewResponder(nc, a, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	receive(t, r.Ready(), "the responder")
	return r, stop
}

// answerWith replies to every request with the same bytes and headers, like a backend in any
// language.
func answerWith(t *testing.T, nc *nats.Conn, body string, header nats.Header) {
	t.Helper()
	subscribe(t, nc, func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Data: []byte(body), Header: header})
	})
}

func subscribe(t *testing.T, nc *nats.Conn, handle nats.MsgHandler) {
	t.Helper()
	if _, err := nc.Subscribe(auth.DefaultSubject, handle); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(timeout):
		t.Fatalf("timeout waiting for %s", what)
		panic("unreachable")
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout waiting for %s", what)
		}
	}
}

func wantRefusal(t *testing.T, id auth.Identity, err error, want auth.Refusal) {
	t.Helper()
	var refusal *auth.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("got %+v, %v, want a refusal", id, err)
	}
	if *refusal != want {
		t.Fatalf("got %+v, want %+v", *refusal, want)
	}
	wantNobody(t, id)
}

func wantNobody(t *testing.T, id auth.Identity) {
	t.Helper()
	if id.User != "" || id.Topics != nil || id.ExpiresIn != 0 {
		t.Fatalf("identity returned with an error: %+v", id)
	}
}

func TestAuthenticatorFuncIsChecked(t *testing.T) {
	authenticate := func(id auth.Identity) (auth.Identity, error) {
		return auth.AuthenticatorFunc(func(context.Context, auth.Request) (auth.Identity, error) {
			return id, nil
		}).Authenticate(context.Background(), auth.Request{})
	}
	for name, id := range map[string]auth.Identity{
		"no user":         {},
		"long user":       {User: strings.Repeat("u", 201)},
		"broken user":     {User: "\xff"},
		"replaced user":   {User: "a\ufffd"},
		"empty topic":     {User: "42", Topics: []string{"a", ""}},
		"too many topics": {User: "42", Topics: make([]string, 1001)},
	} {
		got, err := authenticate(id)
		if !errors.Is(err, auth.ErrBadReply) {
			t.Errorf("%s: %v", name, err)
		}
		wantNobody(t, got)
	}
	got, err := authenticate(auth.Identity{User: "42", ExpiresIn: -1})
	wantRefusal(t, got, err, auth.Refusal{Code: "token_expired", Message: "the token has expired"})
	if got, err = authenticate(auth.Identity{User: "42", Topics: []string{"b", "a", "b"}}); err != nil || strings.Join(got.Topics, " ") != "b a" {
		t.Errorf("repeated topics: %+v, %v", got, err)
	}
}

func TestRefusalError(t *testing.T) {
	for want, refusal := range map[string]auth.Refusal{
		"auth: refused: forbidden":                {Code: "forbidden"},
		"auth: refused: busy: soon (retry in 2s)": {Code: "busy", Message: "soon", RetryAfter: 2 * time.Second},
	} {
		if got := refusal.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
