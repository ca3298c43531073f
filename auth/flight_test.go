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

// heldRequests returns a Requester and the requests that it sends; the test replies to them.
func heldRequests(t *testing.T) (r *auth.Requester, requests chan *nats.Msg) {
	t.Helper()
	s := startServer(t)
	requests = make(chan *nats.Msg, 100)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	return auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * timeout}), requests
}

func TestEqualRequestsShareOneFlight(t *testing.T) {
	t.Parallel()
	r, requests := heldRequests(t)
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
	request := receive(t, requests, "the request")
	asked := time.Now()
	for i := 1; i < callers; i++ {
		go call(i)
	}
	eventually(t, "the others to join", func() bool { return r.Waiting() == callers })
	if err := request.Respond([]byte(`{"success":true,"user_id":"42","topics":["a","b"]}`)); err != nil {
		t.Fatal(err)
	}
	for range callers {
		got := receive(t, results, "a reply")
		if got.err != nil || got.id.User != "42" || !slices.Equal(got.id.Topics, []string{"a", "b"}) {
			t.Fatalf("%+v, %v", got.id, got.err)
		}
		if got.id.Asked.Before(began) || got.id.Asked.After(asked) {
			t.Errorf("Asked = %v, want a time between %v and %v", got.id.Asked, began, asked)
		}
		slices.Reverse(got.id.Topics) // must not affect the other callers
	}
	if request.Header.Get("Tidings-Conn") != "c0" || len(requests) != 0 {
		t.Errorf("%v, and %d more requests", request.Header, len(requests))
	}
	go call(0) // replies are not cached
	_ = receive(t, requests, "another request").Respond([]byte(`{"success":false,"error":"forbidden"}`))
	got := receive(t, results, "the refusal")
	wantRefusal(t, got.id, got.err, auth.Refusal{Code: "forbidden"})
}

func TestDifferentRequestsDoNotShareAFlight(t *testing.T) {
	t.Parallel()
	r, requests := heldRequests(t)
	same := auth.Request{Token: "token-1", Origin: "https://a.example", RemoteAddr: "[2001:db8::1]:1000", Device: "web"}
	different := []auth.Request{same, same, same, same, same, same, same}
	different[1].Token = "token-2"
	different[2].Origin = "https://b.example"
	different[3].RemoteAddr = "[2001:db8::2]:1000"
	different[4].Device = "phone"
	different[5].Renew = true
	different[6].Token, different[6].Origin = "token-1https", "://a.example" // equal if the parts were only concatenated
	results := make(chan error, len(different))
	for _, req := range different {
		go func() { _, err := r.Authenticate(context.Background(), req); results <- err }()
	}
	for range different {
		_ = receive(t, requests, "a request of each").Respond([]byte(yes))
	}
	for range different {
		if err := receive(t, results, "a reply"); err != nil {
			t.Error(err)
		}
	}
}

func TestCallerThatLeavesDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	r, requests := heldRequests(t)
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
	call(timeout)
	request := receive(t, requests, "the request")
	call(timeout)
	eventually(t, "another to join", func() bool { return r.Waiting() == 2 })
	leave[0]()
	if got := receive(t, results, "the caller that left"); !errors.Is(got.err, context.Canceled) || errors.Is(got.err, auth.ErrUnavailable) {
		t.Error(got.err)
	}
	call(50 * time.Millisecond)
	got := receive(t, results, "the caller with a short deadline")
	wantUnavailable(t, got.id, got.err)
	_ = request.Respond([]byte(yes))
	if got := receive(t, results, "the reply"); got.err != nil || got.id.User != "42" {
		t.Errorf("%+v, %v", got.id, got.err)
	}

	eventually(t, "all callers to be gone", func() bool { return r.Waiting() == 0 })
}

// The backend works on a request that was sent, even if its caller has left. So the request keeps
// its slot. Otherwise callers that come and go would give the backend more requests at once than
// the limit. A caller that reconnects gets the reply.
func TestSentRequestKeepsItsSlot(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	requests := make(chan *nats.Msg, 100)
	subscribe(t, connect(t, s), func(m *nats.Msg) { requests <- m })
	r := auth.NewRequester(connect(t, s), auth.RequesterConfig{Timeout: 2 * timeout, MaxInFlight: 1, MaxWait: 2 * timeout})
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
	request := receive(t, requests, "the request")
	call(leaving, "token-2")
	eventually(t, "another to wait", func() bool { n, _ := r.Queued(); return n == 1 })
	leave()
	for range 2 {
		if err := receive(t, results, "the callers that left"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	eventually(t, "the queue to be empty", func() bool { n, _ := r.Queued(); return n == 0 && r.Free() == 0 })
	call(context.Background(), "token-3")
	eventually(t, "the next to wait", func() bool { n, _ := r.Queued(); return n == 1 })
	call(context.Background(), "token-1")
	eventually(t, "the first to join", func() bool { return r.Waiting() == 2 })
	_ = request.Respond([]byte(yes))
	request = receive(t, requests, "the next request")
	if string(request.Data) != "token-3" {
		t.Errorf("the next request is about %s", request.Data)
	}
	_ = request.Respond([]byte(yes))
	for range 2 {
		if err := receive(t, results, "a reply"); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "the slot to be free", func() bool { return r.Free() == 1 })
	if len(requests) != 0 {
		t.Error("a request was sent for a caller that had left")
	}
	got := []string{receive(t, late, "the result of a request"), receive(t, late, "the result of the other request")}
	slices.Sort(got)
	if want := []string{"<nil>", "auth: no answer: busy"}; got[0] != want[0] || !strings.HasPrefix(got[1], want[1]) {
		t.Errorf("late: %q, want %q", got, want)
	}
}
