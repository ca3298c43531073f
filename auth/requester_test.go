package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/streams/streamstest"
)

const yes = `{"success":true,"user_id":"42"}`

func authenticate(r *auth.Requester) (auth.Identity, error) {
	return r.Authenticate(context.Background(), auth.Request{Token: "token-1"})
}

func wantUnavailable(t *testing.T, id auth.Identity, err error) {
	t.Helper()
	if !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrBadReply) {
		t.Fatalf("got %+v, %v, want ErrUnavailable", id, err)
	}
	wantNobody(t, id)
}

func TestNoResponder(t *testing.T) {
	nc := connect(t, startServer(t))
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: timeout})
	start := time.Now()
	id, err := authenticate(r)
	wantUnavailable(t, id, err)
	if took := time.Since(start); took > timeout/2 {
		t.Errorf("took %v", took)
	}
	if sent := nc.Stats().OutMsgs; sent != 2 {
		t.Errorf("%d requests, want 2", sent)
	}
	// A timeout shorter than the usual pause still allows a second attempt.
	id, err = authenticate(auth.NewRequester(nc, auth.RequesterConfig{Timeout: 400 * time.Millisecond}))
	wantUnavailable(t, id, err)
	if sent := nc.Stats().OutMsgs; sent != 4 {
		t.Errorf("%d requests, want 4", sent)
	}
}

func TestResponderStartsBetweenAttempts(t *testing.T) {
	s := startServer(t)
	backend := connect(t, s)
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: timeout})
	r.SetPause(func(context.Context) { answerWith(t, backend, yes, nil) })
	if id, err := authenticate(r); err != nil || id.User != "42" {
		t.Fatalf("got %+v, %v", id, err)
	}
}

func TestSlowResponderGetsOneRequest(t *testing.T) {
	s := startServer(t)
	requests := make(chan *nats.Msg, 2)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	id, err := authenticate(auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 100 * time.Millisecond}))
	wantUnavailable(t, id, err)
	receive(t, requests, "the request")
	if len(requests) != 0 {
		t.Error("a second request was sent, although the token may be good for one use only")
	}
}

func TestForbiddenSubjectTimesOut(t *testing.T) {
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "gw", Password: "gw", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{auth.DefaultSubject}}}}}
	})
	nc := connect(t, s, nats.UserInfo("gw", "gw"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	id, err := authenticate(auth.NewRequester(nc, auth.RequesterConfig{Timeout: 100 * time.Millisecond}))
	wantUnavailable(t, id, err)
}

func TestContextOfTheCallerEnds(t *testing.T) {
	s := startServer(t)
	requests := make(chan *nats.Msg, 2)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: timeout})

	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-requests; cancel() }()
	id, err := r.Authenticate(ctx, auth.Request{Token: "token-1"})
	if !errors.Is(err, context.Canceled) || errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("canceled: %v", err)
	}
	wantNobody(t, id)
	if _, err = r.Authenticate(ctx, auth.Request{Token: "token-1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before: %v", err)
	}

	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	id, err = r.Authenticate(ctx, auth.Request{Token: "token-1"})
	wantUnavailable(t, id, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
}

func TestTokenTooLargeIsNotSent(t *testing.T) {
	s := startServer(t, func(o *server.Options) { o.MaxPayload = 4096 })
	answerWith(t, connect(t, s), yes, nil)
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{})
	for _, req := range []auth.Request{
		{Token: strings.Repeat("x", 4097)},
		{Token: strings.Repeat("x", 4096), Conn: "c1"}, // headers count
	} {
		id, err := r.Authenticate(context.Background(), req)
		wantRefusal(t, id, err, auth.Refusal{Code: "token_too_large", Message: "at most 4096 bytes with headers"})
	}
	if sent, kept := nc.Stats().OutMsgs, streamstest.Requests(t, nc); sent != 0 || kept != 0 {
		t.Errorf("%d requests sent, nats.go keeps %d", sent, kept)
	}
	if id, err := r.Authenticate(context.Background(), auth.Request{Token: strings.Repeat("x", 4096)}); err != nil {
		t.Errorf("the largest token: %+v, %v", id, err)
	}
}

func TestNATSFailsDuringRequest(t *testing.T) {
	s := startServer(t)
	requests := make(chan *nats.Msg, 2)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	nc := connect(t, s, nats.MaxReconnects(-1))
	// Authenticate keeps waiting: the reply may still arrive if the connection is back in time.
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: 500 * time.Millisecond})
	go func() { <-requests; stopServer(s) }()
	start := time.Now()
	id, err := authenticate(r)
	wantUnavailable(t, id, err)
	if took := time.Since(start); took > timeout {
		t.Errorf("took %v", took)
	}

	// While NATS is away, nothing goes to the reconnect buffer to be sent later.
	eventually(t, "the connection to notice", func() bool { return !nc.IsConnected() })
	before := nc.Stats().OutMsgs
	id, err = authenticate(r)
	wantUnavailable(t, id, err)
	nc.Close()
	id, err = authenticate(r)
	wantUnavailable(t, id, err)
	if after := nc.Stats().OutMsgs; after != before {
		t.Errorf("%d requests are waiting for NATS to return", after-before)
	}
}

func TestNATSNeverConnected(t *testing.T) {
	s := startServer(t)
	url := s.ClientURL()
	stopServer(s)
	nc, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	id, err := authenticate(auth.NewRequester(nc, auth.RequesterConfig{}))
	wantUnavailable(t, id, err)
}

func TestMaxInFlight(t *testing.T) {
	s := startServer(t)
	requests := make(chan *nats.Msg, 10)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: timeout, MaxInFlight: 2})
	results := make(chan error, 3)
	for i := range 3 {
		go func() { results <- authenticateAll(r, fmt.Sprint(i), 1)[0] }()
	}
	first := receive(t, requests, "the first request")
	receive(t, requests, "the second request")
	// The third waits for a slot, and gives up at its deadline.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	id, err := r.Authenticate(ctx, auth.Request{})
	wantUnavailable(t, id, err)
	if sent := nc.Stats().OutMsgs; sent != 2 {
		t.Fatalf("%d requests in flight, want 2", sent)
	}
	if err := first.Respond([]byte(yes)); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, results, "the first reply"); err != nil {
		t.Error(err)
	}
	receive(t, requests, "the third request")
	nc.Close()
	for range 2 {
		if err := receive(t, results, "the others"); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("NATS closed: %v", err)
		}
	}
}

// A caller that waits for a slot fails after MaxWait, whatever the Timeout, and no request is sent
// for it.
func TestMaxWait(t *testing.T) {
	s := startServer(t)
	requests := make(chan *nats.Msg, 10)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: 2 * timeout, MaxInFlight: 1, MaxWait: 100 * time.Millisecond})
	results := make(chan error, 4)
	for i := range 4 {
		go func() { results <- authenticateAll(r, fmt.Sprint(i), 1)[0] }()
	}
	first := receive(t, requests, "the first request")
	for range 3 {
		if err := receive(t, results, "a refusal"); !errors.Is(err, auth.ErrBusy) || !errors.Is(err, auth.ErrUnavailable) {
			t.Error(err)
		}
	}
	if sent := nc.Stats().OutMsgs; sent != 1 {
		t.Errorf("%d requests, want 1", sent)
	}
	if err := first.Respond([]byte(yes)); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, results, "the first reply"); err != nil {
		t.Error(err)
	}
}

// A responder that replies to one request after another needs three times the Timeout for a storm.
// No reply is too late.
func TestStormWithSlowResponder(t *testing.T) {
	const storm, each = 300, 10 * time.Millisecond
	s := startServer(t)
	subscribe(t, connect(t, s), func(m *nats.Msg) {
		time.Sleep(each)
		_ = m.Respond([]byte(yes))
	})
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: storm * each / 3, MaxInFlight: 8, MaxWait: time.Minute})
	results := make(chan error, storm)
	for i := range storm {
		go func() { results <- authenticateAll(r, fmt.Sprint(i), 1)[0] }()
	}
	for range storm {
		if err := receive(t, results, "a reply"); err != nil {
			t.Fatal(err)
		}
	}
	if sent := nc.Stats().OutMsgs; sent != storm {
		t.Errorf("%d requests for %d callers", sent, storm)
	}
}

func TestMicroErrorReplies(t *testing.T) {
	failed := func(code string) nats.Header {
		return nats.Header{"Nats-Service-Error": {"oops"}, "Nats-Service-Error-Code": {code}}
	}
	const no = `{"success":false,"error":"unavailable","retry_after":2}`
	for name, test := range map[string]struct {
		body   string
		header nats.Header
		want   error // nil: a refusal
	}{
		"500":                 {"", failed("500"), auth.ErrUnavailable},
		"503, not JSON":       {"sorry", failed("503"), auth.ErrUnavailable},
		"429":                 {"", failed("429"), auth.ErrUnavailable},
		"400":                 {"", failed("400"), auth.ErrBadReply},
		"not a number":        {"", failed("500x"), auth.ErrBadReply},
		"no code":             {"", nats.Header{"Nats-Service-Error": {"oops"}}, auth.ErrBadReply},
		"refusal in the body": {no, failed("500"), nil},
		"success with 500":    {yes, failed("500"), auth.ErrUnavailable},
		"success with 200":    {yes, failed("200"), auth.ErrBadReply},
		"empty":               {"", nil, auth.ErrBadReply},
		"empty with headers":  {"", nats.Header{"X": {"1"}}, auth.ErrBadReply},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			answerWith(t, connect(t, s), test.body, test.header)
			id, err := authenticate(auth.NewRequester(connect(t, s), auth.RequesterConfig{}))
			if test.want == nil {
				wantRefusal(t, id, err, auth.Refusal{Code: "unavailable", RetryAfter: 2 * time.Second})
				return
			}
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			wantNobody(t, id)
		})
	}
}
