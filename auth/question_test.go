package auth_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/auth"
)

var unavailable = auth.Refusal{Code: "unavailable", Message: "try again", RetryAfter: 2 * time.Second}

func TestFailuresAreNotExposed(t *testing.T) {
	s := startServer(t)
	var log bytes.Buffer
	backend := func(_ context.Context, req auth.Request) (auth.Identity, error) {
		switch req.Token {
		case "sesame-error":
			return auth.Identity{User: "42"}, fmt.Errorf("get http://db/?token=%s: refused", req.Token)
		case "sesame-panic":
			panic("secret trouble with " + req.Token)
		case "sesame-nil":
			return auth.Identity{}, (*auth.Refusal)(nil)
		case "sesame-nobody":
			return auth.Identity{}, nil
		}
		return auth.Identity{User: "42"}, nil
	}
	_, stop := serve(t, connect(t, s), plain(backend), auth.ResponderConfig{Logger: zerolog.New(zerolog.SyncWriter(&log))})
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{})
	for _, token := range []string{"sesame-error", "sesame-panic", "sesame-nil", "sesame-nobody"} {
		id, err := r.Authenticate(context.Background(), auth.Request{Token: token, Conn: "c1"})
		wantRefusal(t, id, err, unavailable)
		msg, err := nc.Request(auth.DefaultSubject, []byte(token), timeout)
		if err != nil || msg.Header.Get(micro.ErrorCodeHeader) != "500" || strings.Contains(string(msg.Data)+fmt.Sprint(msg.Header), "db") {
			t.Errorf("%s: reply %q %q, %v", token, msg.Header, msg.Data, err)
		}
	}
	if id, err := r.Authenticate(context.Background(), auth.Request{Token: "good"}); err != nil || id.User != "42" {
		t.Errorf("after the failures: %+v, %v", id, err)
	}
	stop() // no goroutine writes to log after this
	for _, want := range []string{"http://db/", "secret trouble", "user is empty", `"conn":"c1"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "sesame") {
		t.Errorf("the log contains the token: %s", log.String())
	}
}

// plain is an Authenticator whose results are not checked.
type plain func(ctx context.Context, req auth.Request) (auth.Identity, error)

func (p plain) Authenticate(ctx context.Context, req auth.Request) (auth.Identity, error) {
	return p(ctx, req)
}

func TestSlowRequestDoesNotDelayOthers(t *testing.T) {
	s := startServer(t)
	started, release := make(chan struct{}), make(chan struct{})
	serve(t, connect(t, s), plain(func(ctx context.Context, req auth.Request) (auth.Identity, error) {
		if req.Token == "slow" {
			close(started)
			<-release
		}
		return auth.Identity{User: req.Token}, nil
	}), auth.ResponderConfig{MaxInFlight: 2, Timeout: timeout})
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: timeout})
	slow := make(chan error, 1)
	go func() {
		_, err := r.Authenticate(context.Background(), auth.Request{Token: "slow"})
		slow <- err
	}()
	receive(t, started, "the slow request")
	for range 20 {
		if id, err := r.Authenticate(context.Background(), auth.Request{Token: "fast"}); err != nil || id.User != "fast" {
			t.Fatalf("got %+v, %v", id, err)
		}
	}
	close(release)
	if err := receive(t, slow, "the slow reply"); err != nil {
		t.Error(err)
	}
}

func TestRequestsAreLimitedInNumberAndTime(t *testing.T) {
	s := startServer(t)
	var working, maximum atomic.Int64
	release := make(chan struct{})
	responder, _ := serve(t, connect(t, s), plain(func(ctx context.Context, req auth.Request) (auth.Identity, error) {
		maximum.Store(max(maximum.Load(), working.Add(1)))
		defer working.Add(-1)
		<-release
		<-ctx.Done() // ends Timeout after the request arrived
		return auth.Identity{}, ctx.Err()
	}), auth.ResponderConfig{MaxInFlight: 1, Timeout: 50 * time.Millisecond})
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: timeout})
	const n = 1 + 16 + 5 // processed, queued, rejected
	results := make(chan error, n)
	for i := range n {
		go func() { results <- authenticateAll(r, fmt.Sprint(i), 1)[0] }()
	}
	eventually(t, "the queue to fill", func() bool { return responder.TurnedAway() >= 5 })
	close(release)
	for range n {
		err := receive(t, results, "a reply")
		wantRefusal(t, auth.Identity{}, err, unavailable)
	}
	if maximum.Load() != 1 {
		t.Errorf("%d at once, want 1", maximum.Load())
	}
}
