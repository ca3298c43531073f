package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Where nobody answers, clients are told when to come again, each at a time of its own, and are served soon after somebody does.
func TestClientsComeAgainOnceTheResponderDoes(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	refused, live := make(chan error, 100), make(chan struct{})
	c, err := client.New(client.Config{
		URL: "ws://" + n.address, Token: func(context.Context) (string, error) { return "alice", nil },
		MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond, // but for what the gateway says
		OnMessage: func(context.Context, client.Message) error { return nil },
		OnLive:    func(uint64) { close(live) },
		OnState: func(s client.State, err error) {
			if closed := (*client.CloseError)(nil); s == client.Waiting && errors.As(err, &closed) {
				select {
				case refused <- err:
				default:
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	times := map[int64]bool{}
	for deadline := time.Now().Add(patience); len(times) < 5; {
		if time.Now().After(deadline) {
			t.Fatalf("they come again at the times %v", times)
		}
		p := n.dial(t)
		expect[wire.Hello](p)
		p.send(wire.Auth{Token: "bob"})
		// Before the breaker opens it is 2 to 3 s.
		if goaway := p.closed(4503); goaway.RetryAfter < 500 || goaway.RetryAfter > 20_000 {
			t.Fatalf("goaway: %+v", goaway)
		} else if goaway.RetryAfter < 2000 || goaway.RetryAfter > 3000 {
			times[goaway.RetryAfter] = true
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if closed := (*client.CloseError)(nil); !errors.As(<-refused, &closed) || closed.Code != wire.CloseUnavailable {
		t.Error(closed)
	}
	n.answer(t, tokenIsUser)
	select {
	case <-live:
	case <-time.After(2 * patience):
		t.Fatal("it does not come again")
	}
}

// A session that joined a question asked before a disconnect, and came after it, has the answer from before: it is disconnected too.
func TestDisconnectCountsForAQuestionThatIsJoined(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	asked, answer := make(chan struct{}, 2), make(chan struct{})
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		asked <- struct{}{}
		<-answer
		return auth.Identity{User: r.Token}, nil
	}))
	for try := range 10 { // what is too slow to join is asked about by itself
		user := fmt.Sprint("alice", try)
		first, second := n.dial(t), n.dial(t)
		expect[wire.Hello](first)
		first.send(wire.Auth{Token: user})
		<-asked
		if _, gateways, err := delivery.Disconnect(t.Context(), n.nc, user, nil, ""); err != nil || gateways != 1 {
			t.Fatalf("%d gateways answered: %v", gateways, err)
		}
		expect[wire.Hello](second)
		second.send(wire.Auth{Token: user})
		time.Sleep(time.Duration(1+try) * 50 * time.Millisecond)
		answer <- struct{}{}
		first.closed(4410)
		select {
		case answer <- struct{}{}: // it was
			<-asked
		case <-time.After(300 * time.Millisecond):
			second.closed(4410)
			return
		}
	}
	t.Fatal("no question was joined")
}

// A ban: the backend disconnects a user, and refuses the token from then on. The client that comes again hears so, and stops.
func TestABanSticks(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	var banned atomic.Bool
	var asked atomic.Int64
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		asked.Add(1)
		if banned.Load() {
			return auth.Identity{}, &auth.Refusal{Code: "banned"}
		}
		return auth.Identity{User: r.Token}, nil
	}))
	// As a page does that is loaded again: what was disconnected does not come back by itself.
	run := func(live func()) error {
		c, err := client.New(client.Config{
			URL: "ws://" + n.address, Token: func(context.Context) (string, error) { return "alice", nil },
			MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond,
			OnMessage: func(context.Context, client.Message) error { return nil },
			OnLive:    func(uint64) { live() },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		return c.Run(ctx)
	}
	err := run(func() {
		banned.Store(true)
		go func() { _, _, _ = delivery.Disconnect(context.Background(), n.nc, "alice", nil, "banned") }()
	})
	if closed := (*client.CloseError)(nil); !errors.As(err, &closed) || closed.Code != wire.CloseDisconnected {
		t.Errorf("disconnected: %v", err)
	}
	err = run(func() { t.Error("it was admitted") })
	if closed := (*client.CloseError)(nil); !errors.As(err, &closed) || closed.Code != wire.CloseUnauthorized {
		t.Errorf("refused: %v", err)
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
	n.call(t, http.MethodGet, delivery.EventsPath, "", "Authorization", "Bearer alice").is(http.StatusUnauthorized)
}
