package delivery_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Two clients' addresses.
const here, elsewhere = "127.0.0.1", "127.0.0.2"

func withLimits(l delivery.Limits) func(*nodeConfig) {
	return func(c *nodeConfig) { c.delivery.Limits = l }
}

// from dials from an address of this machine.
func from(t *testing.T, address string) *net.Dialer {
	t.Helper()
	probe, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Skip("this system has one loopback address: ", err)
	}
	_ = probe.Close()
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
}

// try connects from an address; the status is 101, or why not.
func (n *node) try(t *testing.T, address string, header ...string) (*peer, int) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	dialer := websocket.Dialer{NetDialContext: from(t, address).DialContext, HandshakeTimeout: patience}
	ws, response, err := dialer.DialContext(t.Context(), "ws://"+n.address+wire.Path, h)
	if response == nil {
		t.Fatal(err)
	}
	if err != nil {
		if after, err := strconv.Atoi(response.Header.Get("Retry-After")); err != nil || after < 1 || after > 10 {
			t.Errorf("%s, Retry-After %q", response.Status, response.Header.Get("Retry-After"))
		}
		return nil, response.StatusCode
	}
	t.Cleanup(func() { _ = ws.Close() })
	return &peer{t: t, ws: ws}, response.StatusCode
}

// get makes a request from an address, which answers with a status.
func (n *node) get(t *testing.T, address, target, token string, headers ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.address+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DialContext: from(t, address).DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// inside waits until so many are in.
func (n *node) inside(t *testing.T, all, unknown, addresses int) {
	t.Helper()
	streamstest.Eventually(t, 2*patience, func() error {
		if a, u, o := n.gateway.Inside(); a != all || u != unknown || o != addresses {
			return fmt.Errorf("%d are in, %d unknown, from %d addresses; want %d, %d, %d", a, u, o, all, unknown, addresses)
		}
		return nil
	})
}

// admitted sends a token, and has it admitted.
func (p *peer) admitted(token string) *peer {
	p.t.Helper()
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: token})
	await[wire.Live](p)
	return p
}

func TestConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{ConnectionsPerAddress: 2}))
	first, _ := n.try(t, here)
	first.admitted("alice")
	l, _ := n.hear(t, "alice")
	l.next()
	if _, status := n.try(t, here); status != http.StatusTooManyRequests {
		t.Errorf("the third is answered %d", status)
	}
	if status := n.get(t, here, delivery.EventsPath, "alice"); status != http.StatusTooManyRequests {
		t.Errorf("events of a third are answered %d", status)
	}
	other, _ := n.try(t, elsewhere)
	other.admitted("alice")
	n.inside(t, 3, 0, 2)
	if refused := n.gateway.Refused("connections_per_address"); refused != 2 {
		t.Errorf("%d counted", refused)
	}
	_ = first.ws.Close()
	n.inside(t, 2, 0, 2)
	again, _ := n.try(t, here)
	again.admitted("bob")
	for _, end := range []func() error{again.ws.Close, other.ws.Close, l.body.Close} {
		_ = end()
	}
	n.inside(t, 0, 0, 0)
}

func TestConnectionsInAll(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{Connections: 2}))
	for _, address := range []string{here, elsewhere} {
		p, _ := n.try(t, address)
		p.admitted("alice")
		defer p.ws.Close()
	}
	if _, status := n.try(t, here); status != http.StatusServiceUnavailable {
		t.Errorf("the third is answered %d", status)
	}
	n.inside(t, 2, 0, 2)
}

// Who connects and says nothing goes when its time is over, and past a number is not let in. Nobody else is concerned.
func TestSilentSocketsFromOneAddress(t *testing.T) {
	const silent, most, silence = 300, 100, 2 * time.Second
	n := newTown(t, withLimits(delivery.Limits{UnauthenticatedPerAddress: most, Unauthenticated: most + 1}),
		func(c *nodeConfig) { c.delivery.AuthWithin = silence })
	good, _ := n.try(t, elsewhere)
	good.admitted("alice")
	base := runtime.NumGoroutine()
	began := time.Now()
	var in []*peer
	refused := 0
	for range silent {
		p, status := n.try(t, here)
		switch {
		case p != nil:
			in = append(in, p)
		case status == http.StatusTooManyRequests:
			refused++
		default:
			t.Fatal(status)
		}
	}
	if time.Since(began) > silence*3/4 {
		t.Skip("the machine is too slow for it: the first are gone before the last have come")
	}
	if len(in) != most || refused != silent-most {
		t.Errorf("%d are in, %d refused", len(in), refused)
	}
	n.to(t, "alice", "x")
	expect[wire.Msg](good)
	more, _ := n.try(t, elsewhere)
	if _, status := n.try(t, elsewhere); status != http.StatusServiceUnavailable {
		t.Errorf("one past all that may be unauthenticated is answered %d", status)
	}
	more.admitted("bob")
	for _, p := range in {
		p.closed(wire.CloseTimeout)
		_ = p.ws.Close()
	}
	_ = more.ws.Close()
	n.inside(t, 1, 0, 1)
	streamstest.Eventually(t, 2*patience, func() error {
		if now := runtime.NumGoroutine(); now > base+20 { // some are of libraries; those of 100 sockets would be more

			return fmt.Errorf("%d goroutines, %d before", now, base)
		}
		return nil
	})
}

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

func TestConnectionsPerUser(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{ConnectionsPerUser: 2}))
	n.live(t, "alice")
	l, _ := n.hear(t, "alice")
	l.next()
	p := n.dial(t)
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "alice", Device: "another"})
	if goaway := p.closed(wire.CloseTooMany); goaway.RetryAfter < 30_000 {
		t.Errorf("goaway: %+v", goaway)
	}
	_, response := n.hear(t, "alice")
	if after, _ := strconv.Atoi(response.Header.Get("Retry-After")); response.StatusCode != http.StatusTooManyRequests || after < 30 {
		t.Errorf("events: %s, Retry-After %d", response.Status, after)
	}
	source, _ := n.hear(t, "alice", "Accept", "text/event-stream")
	if e := source.next(); e == nil || e.name != "goaway" {
		t.Errorf("an EventSource, which takes 429 for final, gets %+v", e)
	}
	n.live(t, "bob")
	_ = l.body.Close()
	n.inside(t, 2, 0, 1)
	n.live(t, "alice")
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

// Who is no trusted proxy cannot say to be somebody else. Of those behind one, each has its own limits, and the backend is told who it is.
func TestForwardedAddresses(t *testing.T) {
	t.Parallel()
	log := &journal{}
	n := newNode(t, streamstest.Run(t).URL(), withLimits(delivery.Limits{
		ConnectionsPerAddress: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix(elsewhere + "/32")},
	}), func(c *nodeConfig) { c.log = log })
	told := make(chan string, 1)
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		told <- r.RemoteAddr
		return auth.Identity{User: r.Token}, nil
	}))
	p, _ := n.try(t, here, "X-Forwarded-For", "203.0.113.1")
	p.admitted("alice")
	if remote := <-told; !strings.HasPrefix(remote, here+":") {
		t.Errorf("a client that spoofs is %s to the backend", remote)
	}
	if _, status := n.try(t, here, "X-Forwarded-For", "203.0.113.2"); status != http.StatusTooManyRequests {
		t.Errorf("a client that spoofs another address is answered %d", status)
	}
	for _, client := range []string{"203.0.113.1", "203.0.113.2"} {
		p, _ := n.try(t, elsewhere, "X-Forwarded-For", "192.0.2.1, "+client)
		p.admitted("alice")
		if remote := <-told; remote != client {
			t.Errorf("%s is %s to the backend", client, remote)
		}
		if _, status := n.try(t, elsewhere, "X-Forwarded-For", "192.0.2.2, "+client); status != http.StatusTooManyRequests {
			t.Errorf("a second of %s is answered %d", client, status)
		}
	}
	// Somebody of this machine passes requests on, and may be a proxy that was forgotten.
	if hints := log.saying("name it with --trusted-proxy"); len(hints) != 1 || !strings.Contains(hints[0], here) {
		t.Errorf("hints: %q", hints)
	}
}

// A page of another origin is told so before it counts for anything.
func TestOriginsComeBeforeLimits(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{ConnectRate: 0.01}))
	for range 3 {
		if status := n.get(t, here, wire.Path, "", "Origin", "https://evil.example"); status != http.StatusForbidden {
			t.Errorf("answered %d", status)
		}
	}
	p, _ := n.try(t, here)
	p.admitted("alice")
}
