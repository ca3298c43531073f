package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// asked counts the questions that are asked of the backend: all that were answered before the call, and perhaps more.
func (b *backend) asked(t *testing.T) func() int64 {
	t.Helper()
	sub, err := b.nc.SubscribeSync(auth.DefaultSubject)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	count := func() int64 {
		t.Helper()
		if err := b.nc.Flush(); err != nil { // what the server has sent before is there then
			t.Fatal(err)
		}
		n, _, err := sub.Pending()
		if err != nil {
			t.Fatal(err)
		}
		return int64(n)
	}
	count()
	return count
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
		case "stale":
			return auth.Identity{}, &auth.Refusal{Code: "token_expired"}
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
		for range 3 { // none of which was guessed
			if status := n.get(t, address, delivery.EventsPath, "busy"); status != http.StatusServiceUnavailable {
				t.Fatalf("%s: busy: %d", w.name, status)
			}
			if status := n.get(t, address, delivery.EventsPath, "stale"); status != http.StatusUnauthorized {
				t.Fatalf("%s: stale: %d", w.name, status)
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
		if status := n.get(t, address, "/v1/users/alice", apiKey); status != http.StatusOK { // of a backend behind the same address
			t.Errorf("%s: then a good key is answered %d", w.name, status)
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

// A renewal that is refused, or brings another user's token, counts as a failed authentication does. Past the limit nobody is asked, and the
// answer does not tell whether the token was good.
func TestRefusedRenewalsCount(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), withLimits(delivery.Limits{FailedAuthRate: 0.04})) // one, and the next after 25 s
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		if r.Token == "wrong" {
			return auth.Identity{}, &auth.Refusal{Code: "token_unknown"}
		}
		return auth.Identity{User: r.Token}, nil
	}))
	asked := n.asked(t)
	for i, c := range []struct {
		token string
		code  wire.CloseCode
	}{{"wrong", wire.CloseUnauthorized}, {"bob", wire.CloseForbidden}} {
		address := fmt.Sprint("127.0.0.", 30+i)
		guesses, _ := n.try(t, address)
		guesses.admitted("alice")
		stays, _ := n.try(t, address)
		stays.admitted("alice")
		guesses.send(wire.Renew{Token: c.token})
		guesses.closed(c.code)
		before := asked()
		if _, status := n.try(t, address); status != http.StatusTooManyRequests {
			t.Errorf("%s: then a connection is answered %d", c.token, status)
		}
		for _, token := range []string{"wrong", "bob", "alice"} {
			stays.send(wire.Renew{Token: token})
			if e := expect[wire.Error](stays); e.Code != wire.ErrorRenewUnavailable {
				t.Errorf("%s: then %s is answered %+v", c.token, token, e)
			}
		}
		if got := asked(); got != before {
			t.Errorf("%s: then %d questions are asked", c.token, got-before)
		}
		n.to(t, "alice", "x")
		expect[wire.Msg](stays)
	}
	other, _ := n.try(t, elsewhere)
	other.admitted("alice").send(wire.Renew{Token: "alice"})
	await[wire.Renewed](other)
}

// A client that does not wait for the answer has guessed all the same.
func TestGuessesOfClientsThatLeaveCount(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), withLimits(delivery.Limits{FailedAuthRate: 0.04})) // one, and the next after 25 s
	asked, release := make(chan struct{}, 1), make(chan struct{})
	n.answer(t, auth.AuthenticatorFunc(func(context.Context, auth.Request) (auth.Identity, error) {
		asked <- struct{}{}
		<-release
		return auth.Identity{}, &auth.Refusal{Code: "token_unknown"}
	}))
	p, _ := n.try(t, here)
	p.send(wire.Auth{Token: "guess"})
	<-asked
	_ = p.ws.NetConn().Close()
	n.inside(t, 0, 0, 0)
	close(release)
	streamstest.Eventually(t, patience, func() error {
		if _, status := n.try(t, here); status != http.StatusTooManyRequests {
			return fmt.Errorf("then a connection is answered %d", status)
		}
		return nil
	})
}

// However many connections an address has, it guesses no more tokens with renewals at once.
func TestGuessesByRenewingAreBounded(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), withLimits(delivery.Limits{FailedAuthRate: 0.4})) // 4 at once
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		if strings.HasPrefix(r.Token, "guess") {
			return auth.Identity{}, &auth.Refusal{Code: "token_unknown"}
		}
		return auth.Identity{User: r.Token}, nil
	}))
	const many = 40
	var peers []*peer
	for range many {
		p := n.dial(t)
		peers = append(peers, p.admitted("alice"))
	}
	asked, began := n.asked(t), time.Now()
	for i, p := range peers {
		p.send(wire.Renew{Token: fmt.Sprint("guess", i)})
	}
	closed := 0
	for _, p := range peers {
		f, err := p.next()
		if e, ok := f.(wire.Error); ok && e.Code == wire.ErrorRenewUnavailable {
			continue
		}
		if !websocket.IsCloseError(err, int(wire.CloseUnauthorized)) {
			t.Fatalf("%+v, %v", f, err)
		}
		closed++
	}
	most := 9 + int64(0.4*time.Since(began).Seconds()) // as many as may fail, and as many that are asked about meanwhile
	if got := asked(); got < 4 || got > most || int64(closed) != got {
		t.Errorf("%d guesses of %d were asked about, %d refused", got, many, closed)
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

// A backend that answers for a token it does not know with success, and nobody's name, is asked by those who guess no more often.
func TestAnAnswerThatNamesNobodyCountsAsFailed(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), withLimits(delivery.Limits{FailedAuthRate: 0.04}))
	sub, err := n.nc.Subscribe(auth.DefaultSubject, func(m *nats.Msg) { _ = m.Respond([]byte(`{"success":true}`)) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := n.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if status := n.get(t, here, delivery.EventsPath, "guess"); status == http.StatusOK || status == http.StatusTooManyRequests {
		t.Errorf("the first is answered %d", status)
	}
	if status := n.get(t, here, delivery.EventsPath, "again"); status != http.StatusTooManyRequests {
		t.Errorf("the second is answered %d", status)
	}
}

// A request that asks about a token is one more whose token is not known, until there is an answer. It is no connection.
func TestRequestsThatAskAreUnauthenticated(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), withKeys(apiKey), func(c *nodeConfig) { c.auth.Timeout = 4 * patience },
		withLimits(delivery.Limits{ConnectionsPerAddress: 1, UnauthenticatedPerAddress: 2}))
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		if strings.HasPrefix(r.Token, "slow") {
			<-answer
		}
		return auth.Identity{User: r.Token}, nil
	}))
	defer release()
	p, _ := n.try(t, here)
	p.admitted("alice")
	statuses := make(chan int, 2)
	ask := func(method, target, body, token string) (status int) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.address+target, strings.NewReader(body))
		if err != nil {
			return 0
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+secret(token))
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	list := func(token string) int { return ask(http.MethodGet, "/v1/users/"+token+"/notifications", "", token) }
	ack := func(token string) int { return ask(http.MethodPost, "/v1/ack", `{"epoch":"x","seq":1}`, token) }
	go func() { statuses <- list("slow-1") }()
	go func() { statuses <- ack("slow-2") }()
	n.inside(t, 1, 2, 1)
	if status := list("alice"); status != http.StatusTooManyRequests {
		t.Errorf("one more who lists is answered %d", status)
	}
	if status := ack("alice"); status != http.StatusTooManyRequests {
		t.Errorf("one more who acknowledges is answered %d", status)
	}
	if status := n.get(t, elsewhere, "/v1/users/alice/notifications", "alice"); status != http.StatusOK {
		t.Errorf("another address is answered %d", status)
	}
	release()
	for range cap(statuses) {
		if status := <-statuses; status != http.StatusOK && status != http.StatusConflict { // of the epoch
			t.Errorf("one who waited is answered %d", status)
		}
	}
	n.inside(t, 1, 0, 1)
	if status := ack("alice"); status != http.StatusConflict {
		t.Errorf("an acknowledgement beside as many connections as may be is answered %d", status)
	}
}
