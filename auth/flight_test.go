package auth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

	eventually(t, "everybody to be gone", func() bool { return r.Waiting() == 0 })
}

// The backend works on a question that was sent, whether its caller has left or not: it keeps its slot, or callers that come and go would
// have the backend asked about more tokens at once than it may. The caller that reconnects gets its answer.
func TestASentQuestionKeepsItsSlot(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	questions := make(chan *nats.Msg, 100)
	listen(t, connect(t, s), func(m *nats.Msg) { questions <- m })
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * patience, MaxInFlight: 1, MaxWait: 2 * patience})
	results := make(chan error, 3)
	call := func(ctx context.Context, token string) {
		go func() {
			_, err := r.Authenticate(ctx, auth.Request{Token: token, RemoteAddr: "192.0.2.1:1000"})
			results <- err
		}()
	}
	late := make(chan string, 3)
	leaving, leave := context.WithCancel(auth.WithLate(context.Background(), func(err error) { late <- fmt.Sprint(err) }))
	call(leaving, "token-1")
	question := receive(t, questions, "the question")
	call(leaving, "token-2")
	eventually(t, "another to wait", func() bool { n, _ := r.Queued(); return n == 1 })
	leave()
	for range 2 {
		if err := receive(t, results, "those that left"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	eventually(t, "nobody to wait", func() bool { n, _ := r.Queued(); return n == 0 && r.Free() == 0 })
	call(context.Background(), "token-3")
	eventually(t, "the next to wait", func() bool { n, _ := r.Queued(); return n == 1 })
	call(context.Background(), "token-1")
	eventually(t, "the first to join", func() bool { return r.Waiting() == 2 })
	_ = question.Respond([]byte(yes))
	question = receive(t, questions, "the next question")
	if string(question.Data) != "token-3" {
		t.Errorf("asked about %s", question.Data)
	}
	_ = question.Respond([]byte(yes))
	for range 2 {
		if err := receive(t, results, "an answer"); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "the slot to be free", func() bool { return r.Free() == 1 })
	if len(questions) != 0 {
		t.Error("asked about a token whose caller had left")
	}
	got := []string{receive(t, late, "what became of a question"), receive(t, late, "what became of the other")}
	slices.Sort(got)
	if want := []string{"<nil>", "auth: no answer: busy"}; got[0] != want[0] || !strings.HasPrefix(got[1], want[1]) {
		t.Errorf("late: %q, want %q", got, want)
	}
}
