package auth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
)

// result is what one of several callers got.
type result struct {
	id  auth.Identity
	err error
}

// held is a responder that answers nothing by itself.
func held(t *testing.T) (r *auth.Requester, questions chan *nats.Msg) {
	t.Helper()
	s := startServer(t)
	questions = make(chan *nats.Msg, 100)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	return auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * patience}), questions
}

func TestTheSameQuestionIsAskedOnce(t *testing.T) {
	t.Parallel()
	r, questions := held(t)
	const callers = 50
	results := make(chan result, callers)
	began := time.Now()
	call := func(i int) {
		id, err := r.Authenticate(context.Background(), auth.Request{
			Token: "token-1", Origin: "https://a.example", Device: "web", RemoteAddr: fmt.Sprintf("192.0.2.1:%d", 1000+i),
			Conn: fmt.Sprint("c", i), UserAgent: fmt.Sprint("agent ", i),
		})
		results <- result{id, err}
	}
	go call(0)
	question := receive(t, questions, "the question")
	asked := time.Now()
	for i := 1; i < callers; i++ {
		go call(i)
	}
	eventually(t, "the others to join", func() bool { return r.Waiting() == callers })
	if err := question.Respond([]byte(`{"success":true,"user_id":"42","topics":["a","b"]}`)); err != nil {
		t.Fatal(err)
	}
	for range callers {
		got := receive(t, results, "an answer")
		if got.err != nil || got.id.User != "42" || !slices.Equal(got.id.Topics, []string{"a", "b"}) {
			t.Fatalf("%+v, %v", got.id, got.err)
		}
		if got.id.Asked.Before(began) || got.id.Asked.After(asked) {
			t.Errorf("asked at %v, it was between %v and %v", got.id.Asked, began, asked)
		}
		slices.Reverse(got.id.Topics) // which is nobody else's business
	}
	if question.Header.Get("Tidings-Conn") != "c0" || len(questions) != 0 {
		t.Errorf("%v, and %d more questions", question.Header, len(questions))
	}
	go call(0) // an answer is not kept
	_ = receive(t, questions, "another question").Respond([]byte(`{"success":false,"error":"forbidden"}`))
	got := receive(t, results, "the refusal")
	wantRefusal(t, got.id, got.err, auth.Refusal{Code: "forbidden"})
}

func TestDifferentQuestionsAreAskedApart(t *testing.T) {
	t.Parallel()
	r, questions := held(t)
	same := auth.Request{Token: "token-1", Origin: "https://a.example", RemoteAddr: "[2001:db8::1]:1000", Device: "web"}
	different := []auth.Request{same, same, same, same, same, same, same}
	different[1].Token = "token-2"
	different[2].Origin = "https://b.example"
	different[3].RemoteAddr = "[2001:db8::2]:1000"
	different[4].Device = "phone"
	different[5].Renew = true
	different[6].Token, different[6].Origin = "token-1https", "://a.example" // what is put together is not to be the same
	results := make(chan error, len(different))
	for _, req := range different {
		go func() { _, err := r.Authenticate(context.Background(), req); results <- err }()
	}
	for range different {
		_ = receive(t, questions, "a question of each").Respond([]byte(yes))
	}
	for range different {
		if err := receive(t, results, "an answer"); err != nil {
			t.Error(err)
		}
	}
}

func TestACallerThatLeavesTakesNobodyAlong(t *testing.T) {
	t.Parallel()
	r, questions := held(t)
	results := make(chan result, 3)
	var leave []context.CancelFunc
	call := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		leave = append(leave, cancel)
		t.Cleanup(cancel)
		go func() {
			id, err := r.Authenticate(ctx, auth.Request{Token: "token-1"})
			results <- result{id, err}
		}()
	}
	call(patience)
	question := receive(t, questions, "the question")
	call(patience)
	eventually(t, "another to join", func() bool { return r.Waiting() == 2 })
	leave[0]()
	if got := receive(t, results, "the one that left"); !errors.Is(got.err, context.Canceled) || errors.Is(got.err, auth.ErrUnavailable) {
		t.Error(got.err)
	}
	call(50 * time.Millisecond)
	got := receive(t, results, "the one without patience")
	wantUnavailable(t, got.id, got.err)
	_ = question.Respond([]byte(yes))
	if got := receive(t, results, "the answer"); got.err != nil || got.id.User != "42" {
		t.Errorf("%+v, %v", got.id, got.err)
	}

	// A question for which nobody waits any more is over: whoever comes then asks anew.
	call(patience)
	receive(t, questions, "the question")
	leave[3]()
	receive(t, results, "the one that left")
	call(patience)
	_ = receive(t, questions, "a new question").Respond([]byte(yes))
	if got := receive(t, results, "the answer"); got.err != nil {
		t.Error(got.err)
	}
	eventually(t, "everybody to be gone", func() bool { return r.Waiting() == 0 })
}
