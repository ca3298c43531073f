package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/tidings-io/tidings/auth"
)

func TestRequesterAndResponderAgree(t *testing.T) {
	s := startServer(t)
	full := auth.Request{Token: "t\x00\xff", Conn: "c1", RemoteAddr: "10.0.0.1:5", Origin: "https://app.example",
		UserAgent: "Mozilla/5.0", Device: "web", Renew: true}
	received := make(chan auth.Request, 1)
	var id auth.Identity
	var refusal error
	backend := auth.AuthenticatorFunc(func(_ context.Context, req auth.Request) (auth.Identity, error) {
		received <- req
		return id, refusal
	})
	serve(t, connect(t, s), backend, auth.ResponderConfig{Subject: "authentication"})
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Subject: "authentication"})
	for _, want := range []auth.Identity{
		{User: "42"},
		{User: "<ä> \"x\"\n", Topics: []string{"releases", "a b"}, ExpiresIn: 1500 * time.Millisecond},
	} {
		id = want
		got, err := r.Authenticate(context.Background(), full)
		want.Asked = got.Asked
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if req := receive(t, received, "the request"); req != full {
			t.Errorf("sent %v, received %v", full, req)
		}
	}
	for _, want := range []auth.Refusal{
		{Code: "token_expired", Message: "fetch a fresh one", RetryAfter: 2500 * time.Millisecond},
		{Code: "forbidden"},
	} {
		refusal = fmt.Errorf("looked it up: %w", &want)
		got, err := r.Authenticate(context.Background(), full)
		wantRefusal(t, got, err, want)
		receive(t, received, "the request")
	}
}

func TestServiceIsListed(t *testing.T) {
	s := startServer(t)
	table, err := auth.ParseTable(strings.NewReader(`{"token-1":{"user":"42"}}`))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, connect(t, s), table, auth.ResponderConfig{})
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{})
	if _, err := authenticate(r); err != nil {
		t.Fatal(err)
	}
	_, _ = r.Authenticate(context.Background(), auth.Request{Token: "unknown"})

	var ping micro.Ping
	discover(t, nc, "$SRV.PING", &ping)
	if ping.Name != "tidings-auth" || ping.Version != "1.0.0" {
		t.Errorf("ping: %+v", ping)
	}
	var info micro.Info
	discover(t, nc, "$SRV.INFO.tidings-auth", &info)
	if len(info.Endpoints) != 1 || info.Endpoints[0].Subject != auth.DefaultSubject || info.Endpoints[0].QueueGroup != "tidings-auth" {
		t.Errorf("info: %+v", info)
	}
	var stats micro.Stats
	eventually(t, "the counters", func() bool {
		stats = micro.Stats{}
		discover(t, nc, "$SRV.STATS.tidings-auth", &stats)
		return len(stats.Endpoints) == 1 && stats.Endpoints[0].NumRequests == 2
	})
	if e := stats.Endpoints[0]; e.NumErrors != 0 || string(e.Data) != `{"admitted":1,"refused":1,"failed":0,"turned_away":0,"waiting":0}` {
		t.Errorf("stats: %+v %s", e, e.Data)
	}
}

// discover sends a discovery request and decodes the reply.
func discover(t *testing.T, nc *nats.Conn, subject string, into any) {
	t.Helper()
	msg, err := nc.Request(subject, nil, timeout)
	if err == nil {
		err = json.Unmarshal(msg.Data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
}

func TestRespondersShareRequests(t *testing.T) {
	s := startServer(t)
	var asked atomic.Int64
	for range 2 {
		serve(t, connect(t, s), plain(func(context.Context, auth.Request) (auth.Identity, error) {
			asked.Add(1)
			return auth.Identity{User: "42"}, nil
		}), auth.ResponderConfig{})
	}
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{})
	for range 50 {
		if _, err := authenticate(r); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 50 {
		t.Errorf("%d replies to 50 requests", asked.Load())
	}
}

func TestRunFinishesRequestsThatHaveArrived(t *testing.T) {
	s := startServer(t)
	release := make(chan struct{})
	started := make(chan struct{}, 10)
	_, stop := serve(t, connect(t, s), plain(func(context.Context, auth.Request) (auth.Identity, error) {
		started <- struct{}{}
		<-release
		return auth.Identity{User: "42"}, nil
	}), auth.ResponderConfig{MaxInFlight: 2, Timeout: timeout})
	finish := sync.OnceFunc(func() { close(release) })
	t.Cleanup(finish)
	gateway := connect(t, s)
	r := auth.NewRequester(gateway, auth.RequesterConfig{Timeout: timeout})
	results := make(chan error, 4)
	for i := range 4 { // two processed, two queued
		go func() { results <- authenticateAll(r, fmt.Sprint(i), 1)[0] }()
	}
	receive(t, started, "the first request")
	receive(t, started, "the second request")
	eventually(t, "four requests", func() bool { return gateway.Stats().OutMsgs == 4 })
	if err := gateway.Flush(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	eventually(t, "the service to stop", func() bool {
		_, err := gateway.Request("$SRV.PING.tidings-auth", nil, timeout)
		return errors.Is(err, nats.ErrNoResponders)
	})
	select {
	case <-stopped:
		t.Error("Run returned with requests in flight")
	default:
	}
	finish()
	for range 4 {
		if err := receive(t, results, "a reply"); err != nil {
			t.Error(err)
		}
	}
	receive(t, stopped, "Run to return")
}

func TestRunErrors(t *testing.T) {
	run := func(nc *nats.Conn, cfg auth.ResponderConfig) error {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		return auth.NewResponder(nc, auth.TokenIsUser(), cfg).Run(ctx)
	}
	s := startServer(t, func(o *server.Options) {
		deny := func(subjects ...string) *server.Permissions {
			return &server.Permissions{Subscribe: &server.SubjectPermission{Deny: subjects}}
		}
		o.Users = []*server.User{
			{Username: "any", Password: "x"},
			{Username: "forbidden", Password: "x", Permissions: deny(auth.DefaultSubject)},
			{Username: "unlisted", Password: "x", Permissions: deny("$SRV.>")},
		}
	})
	as := func(user string) *nats.Conn {
		return connect(t, s, nats.UserInfo(user, "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	}
	if err := run(as("any"), auth.ResponderConfig{Version: "new"}); !errors.Is(err, micro.ErrConfigValidation) {
		t.Errorf("bad version: %v", err)
	}
	if err := run(as("any"), auth.ResponderConfig{Subject: "a b"}); err == nil {
		t.Error("a bad subject is accepted")
	}
	if err := run(as("forbidden"), auth.ResponderConfig{}); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("forbidden: %v", err)
	}
	// Without $SRV it works, but `nats service ls` does not show it.
	_, stop := serve(t, as("unlisted"), auth.TokenIsUser(), auth.ResponderConfig{})
	if id, err := authenticate(auth.NewRequester(as("any"), auth.RequesterConfig{})); err != nil || id.User != "token-1" {
		t.Errorf("unlisted: %+v, %v", id, err)
	}
	stop()

	closed := as("any")
	closed.Close()
	if err := run(closed, auth.ResponderConfig{}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("closed before: %v", err)
	}
	nc := as("any")
	r := auth.NewResponder(nc, auth.TokenIsUser(), auth.ResponderConfig{})
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	receive(t, r.Ready(), "the responder")
	if err := r.Run(context.Background()); err == nil {
		t.Error("a second Run did not fail")
	}
	nc.Close()
	if err := receive(t, done, "Run"); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("closed during Run: %v", err)
	}
}

func TestRunWaitsForNATS(t *testing.T) {
	s := startServer(t)
	port := s.Addr().String()
	stopServer(s)
	nc, err := nats.Connect("nats://"+port, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	r := auth.NewResponder(nc, auth.TokenIsUser(), auth.ResponderConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case <-r.Ready():
		t.Error("ready without NATS")
	default:
	}
	restarted := startServer(t, func(o *server.Options) { _, _ = fmt.Sscanf(port, "127.0.0.1:%d", &o.Port) })
	receive(t, r.Ready(), "the responder")
	if id, err := authenticate(auth.NewRequester(connect(t, restarted), auth.RequesterConfig{})); err != nil || id.User != "token-1" {
		t.Errorf("got %+v, %v", id, err)
	}
	cancel()
	if err := receive(t, done, "Run"); err != nil {
		t.Error(err)
	}
}
