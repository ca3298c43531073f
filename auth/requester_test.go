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

func ask(r *auth.Requester) (auth.Identity, error) {
	return r.Authenticate(context.Background(), auth.Request{Token: "token-1"})
}

func wantUnavailable(t *testing.T, id auth.Identity, err error) {
	t.Helper()
	if !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrBadReply) {
		t.Fatalf("got %+v, %v, want ErrUnavailable", id, err)
	}
	wantNobody(t, id)
}

func TestNobodyListens(t *testing.T) {
	nc := connect(t, startServer(t))
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: patience})
	start := time.Now()
	id, err := ask(r)
	wantUnavailable(t, id, err)
	if took := time.Since(start); took > patience/2 {
		t.Errorf("took %v", took)
	}
	if asked := nc.Stats().OutMsgs; asked != 2 {
		t.Errorf("asked %d times, want twice", asked)
	}
	// A timeout shorter than the usual pause still leaves room for the second try.
	id, err = ask(auth.NewRequester(nc, auth.RequesterConfig{Timeout: 400 * time.Millisecond}))
	wantUnavailable(t, id, err)
	if asked := nc.Stats().OutMsgs; asked != 4 {
		t.Errorf("asked %d times, want 4", asked)
	}
}

func TestResponderAppearsBetweenTheTries(t *testing.T) {
	s := startServer(t)
	backend := connect(t, s)
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: patience})
	r.SetPause(func(context.Context) { answerWith(t, backend, yes, nil) })
	if id, err := ask(r); err != nil || id.User != "42" {
		t.Fatalf("got %+v, %v", id, err)
	}
}

func TestSlowResponderIsAskedOnce(t *testing.T) {
	s := startServer(t)
	questions := make(chan *nats.Msg, 2)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	id, err := ask(auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 100 * time.Millisecond}))
	wantUnavailable(t, id, err)
	receive(t, questions, "the question")
	if len(questions) != 0 {
		t.Error("asked again, though the token may be good for one use")
	}
}

func TestForbiddenSubjectTimesOut(t *testing.T) {
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "gw", Password: "gw", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{auth.DefaultSubject}}}}}
	})
	nc := connect(t, s, nats.UserInfo("gw", "gw"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	id, err := ask(auth.NewRequester(nc, auth.RequesterConfig{Timeout: 100 * time.Millisecond}))
	wantUnavailable(t, id, err)
}

func TestCallersContextEnds(t *testing.T) {
	s := startServer(t)
	questions := make(chan *nats.Msg, 2)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: patience})

	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-questions; cancel() }()
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

func TestTokenTooLargeIsNotAsked(t *testing.T) {
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
	if asked, kept := nc.Stats().OutMsgs, streamstest.Requests(t, nc); asked != 0 || kept != 0 {
		t.Errorf("asked %d times, nats.go keeps %d requests", asked, kept)
	}
	if id, err := r.Authenticate(context.Background(), auth.Request{Token: strings.Repeat("x", 4096)}); err != nil {
		t.Errorf("the largest token: %+v, %v", id, err)
	}
}

func TestNATSGoesAwayWhileAsking(t *testing.T) {
	s := startServer(t)
	questions := make(chan *nats.Msg, 2)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	nc := connect(t, s, nats.MaxReconnects(-1))
	// It waits on: the answer may still come if the connection is back in time.
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: 500 * time.Millisecond})
	go func() { <-questions; stopServer(s) }()
	start := time.Now()
	id, err := ask(r)
	wantUnavailable(t, id, err)
	if took := time.Since(start); took > patience {
		t.Errorf("took %v", took)
	}

	// Now that it is away, nothing goes to the reconnect buffer to be asked later.
	eventually(t, "the connection to notice", func() bool { return !nc.IsConnected() })
	before := nc.Stats().OutMsgs
	id, err = ask(r)
	wantUnavailable(t, id, err)
	nc.Close()
	id, err = ask(r)
	wantUnavailable(t, id, err)
	if after := nc.Stats().OutMsgs; after != before {
		t.Errorf("%d questions are waiting for NATS to return", after-before)
	}
}

func TestNATSWasNeverThere(t *testing.T) {
	s := startServer(t)
	url := s.ClientURL()
	stopServer(s)
	nc, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	id, err := ask(auth.NewRequester(nc, auth.RequesterConfig{}))
	wantUnavailable(t, id, err)
}

func TestMaxInFlight(t *testing.T) {
	s := startServer(t)
	questions := make(chan *nats.Msg, 10)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: patience, MaxInFlight: 2})
	results := make(chan error, 3)
	for i := range 3 {
		go func() { results <- everybody(r, fmt.Sprint(i), 1)[0] }()
	}
	first := receive(t, questions, "the first question")
	receive(t, questions, "the second question")
	// The third waits for its turn, and gives up in time if it never comes.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	id, err := r.Authenticate(ctx, auth.Request{})
	wantUnavailable(t, id, err)
	if asked := nc.Stats().OutMsgs; asked != 2 {
		t.Fatalf("%d questions in flight, want 2", asked)
	}
	if err := first.Respond([]byte(yes)); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, results, "the first answer"); err != nil {
		t.Error(err)
	}
	receive(t, questions, "the third question")
	nc.Close()
	for range 2 {
		if err := receive(t, results, "the others"); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("NATS closed: %v", err)
		}
	}
}

// Who waits for a turn that does not come is told in time, whatever the Timeout, and was not asked about.
func TestMaxWait(t *testing.T) {
	s := startServer(t)
	questions := make(chan *nats.Msg, 10)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: 2 * patience, MaxInFlight: 1, MaxWait: 100 * time.Millisecond})
	results := make(chan error, 4)
	for i := range 4 {
		go func() { results <- everybody(r, fmt.Sprint(i), 1)[0] }()
	}
	first := receive(t, questions, "the first question")
	for range 3 {
		if err := receive(t, results, "a refusal"); !errors.Is(err, auth.ErrBusy) || !errors.Is(err, auth.ErrUnavailable) {
			t.Error(err)
		}
	}
	if asked := nc.Stats().OutMsgs; asked != 1 {
		t.Errorf("%d questions, want 1", asked)
	}
	if err := first.Respond([]byte(yes)); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, results, "the first answer"); err != nil {
		t.Error(err)
	}
}

// A storm takes a responder, which answers one after another, three times as long as the Timeout. Nobody's answer comes too late.
func TestStormOnASlowResponder(t *testing.T) {
	const storm, each = 300, 10 * time.Millisecond
	s := startServer(t)
	listen(t, connect(t, s), func(m *nats.Msg) {
		time.Sleep(each)
		_ = m.Respond([]byte(yes))
	})
	nc := connect(t, s)
	r := auth.NewRequester(nc, auth.RequesterConfig{Timeout: storm * each / 3, MaxInFlight: 8, MaxWait: time.Minute})
	results := make(chan error, storm)
	for i := range storm {
		go func() { results <- everybody(r, fmt.Sprint(i), 1)[0] }()
	}
	for range storm {
		if err := receive(t, results, "an answer"); err != nil {
			t.Fatal(err)
		}
	}
	if asked := nc.Stats().OutMsgs; asked != storm {
		t.Errorf("asked %d times for %d", asked, storm)
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
		"500":                  {"", failed("500"), auth.ErrUnavailable},
		"503, not JSON":        {"sorry", failed("503"), auth.ErrUnavailable},
		"429":                  {"", failed("429"), auth.ErrUnavailable},
		"400":                  {"", failed("400"), auth.ErrBadReply},
		"no number":            {"", failed("500x"), auth.ErrBadReply},
		"no code":              {"", nats.Header{"Nats-Service-Error": {"oops"}}, auth.ErrBadReply},
		"the body rules":       {no, failed("500"), nil},
		"never an admission":   {yes, failed("500"), auth.ErrUnavailable},
		"nor with other codes": {yes, failed("200"), auth.ErrBadReply},
		"empty":                {"", nil, auth.ErrBadReply},
		"empty with headers":   {"", nats.Header{"X": {"1"}}, auth.ErrBadReply},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			answerWith(t, connect(t, s), test.body, test.header)
			id, err := ask(auth.NewRequester(connect(t, s), auth.RequesterConfig{}))
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
