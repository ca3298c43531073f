package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// asked counts the questions that are asked of the backend.
func (b *backend) asked(t *testing.T) func() int64 {
	t.Helper()
	var n atomic.Int64
	sub, err := b.nc.Subscribe(auth.DefaultSubject, func(*nats.Msg) { n.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return n.Load
}

func TestConnectsPerAddress(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey), withLimits(delivery.Limits{ConnectRate: 0.01})) // one, and the next after 100 s
	asked := n.asked(t)
	p, _ := n.try(t, here)
	p.admitted("alice")
	if _, status := n.try(t, here); status != http.StatusTooManyRequests {
		t.Errorf("the second is answered %d", status)
	}
	for _, target := range []string{delivery.EventsPath, "/v1/users/alice/notifications"} {
		if status := n.get(t, here, target, "alice"); status != http.StatusTooManyRequests {
			t.Errorf("%s is answered %d", target, status)
		}
	}
	n.call(t, http.MethodPost, "/v1/ack", `{"epoch":"x","seq":1}`, "Authorization", "Bearer alice").is(http.StatusTooManyRequests)
	if got := asked(); got != 1 {
		t.Errorf("%d questions were asked", got)
	}
	n.call(t, http.MethodGet, "/v1/users/alice", "").is(http.StatusOK) // asks for no token
	other, _ := n.try(t, elsewhere)
	other.admitted("alice")
}

func TestFailedAuthentications(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), withKeys(apiKey), withLimits(delivery.Limits{FailedAuthRate: 0.04})) // one, and the next after 25 s
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		switch r.Token {
		case "wrong":
			return auth.Identity{}, &auth.Refusal{Code: "token_unknown"}
		case "busy":
			return auth.Identity{}, &auth.Refusal{Code: "busy", RetryAfter: time.Second}
		}
		return auth.Identity{User: r.Token}, nil
	}))
	asked := n.asked(t)
	wrong := []struct {
		name string
		try  func(address string)
	}{
		{"a socket", func(address string) {
			p, _ := n.try(t, address)
			expect[wire.Hello](p)
			p.send(wire.Auth{Token: "wrong"})
			p.closed(wire.CloseUnauthorized)
		}},
		{"events", func(address string) { n.get(t, address, delivery.EventsPath, "wrong") }},
		{"a token for a key", func(address string) { n.get(t, address, "/v1/users/alice/notifications", "wrong") }},
		{"a key", func(address string) { n.get(t, address, "/v1/users/alice", "wrong") }},
	}
	for i, w := range wrong {
		address := fmt.Sprint("127.0.0.", 10+i)
		early, _ := n.try(t, address)
		expect[wire.Hello](early)
		old, _ := n.try(t, address)
		old.admitted("alice")
		for range 3 { // which says nothing of the token
			if status := n.get(t, address, delivery.EventsPath, "busy"); status != http.StatusServiceUnavailable {
				t.Fatalf("%s: busy: %d", w.name, status)
			}
		}
		w.try(address)
		before := asked()
		if _, status := n.try(t, address); status != http.StatusTooManyRequests {
			t.Errorf("%s: then a connection is answered %d", w.name, status)
		}
		for _, target := range []string{delivery.EventsPath, "/v1/users/alice/notifications", "/v1/users/alice"} {
			if status := n.get(t, address, target, "alice"); status != http.StatusTooManyRequests {
				t.Errorf("%s: then %s is answered %d", w.name, target, status)
			}
		}
		early.send(wire.Auth{Token: "alice"})
		if goaway := early.closed(wire.CloseTooMany); goaway.RetryAfter < 2000 {
			t.Errorf("%s: %+v", w.name, goaway)
		}
		if got := asked(); got != before {
			t.Errorf("%s: then %d questions are asked", w.name, got-before)
		}
		old.send(wire.Renew{Token: "alice"}) // no fault of one who was admitted
		await[wire.Renewed](old)
	}
	p, _ := n.try(t, elsewhere)
	p.admitted("alice")
	if status := n.get(t, elsewhere, "/v1/users/alice", apiKey); status != http.StatusOK {
		t.Errorf("another address is answered %d", status)
	}
}

func TestPublicationsPerKey(t *testing.T) {
	t.Parallel()
	const another = "another-key-for-the-tests"
	n := newTown(t, withKeys(apiKey, another), withLimits(delivery.Limits{PublishRate: 0.01})) // one, and the next after 100 s
	publish := func(key string) answer {
		return n.call(t, http.MethodPost, "/v1/notifications", `{"to":"alice","data":1}`, "Authorization", "Bearer "+key)
	}
	publish(apiKey).is(http.StatusAccepted)
	publish(apiKey).is(http.StatusTooManyRequests)
	publish(another).is(http.StatusAccepted)
	n.call(t, http.MethodGet, "/v1/users/alice", "").is(http.StatusOK)
}
