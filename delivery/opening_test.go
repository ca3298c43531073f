package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// heldAnswers answers for tokens once release is closed. Others counts the tokens beside "first".
func heldAnswers(t *testing.T, n *node) (release chan struct{}, first chan struct{}, others *atomic.Int64) {
	release, first, others = make(chan struct{}), make(chan struct{}, 100), &atomic.Int64{}
	n.answer(t, auth.AuthenticatorFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		if r.Token == "first" {
			first <- struct{}{}
		} else {
			others.Add(1)
		}
		select {
		case <-release:
			return auth.Identity{User: r.Token}, nil
		case <-ctx.Done(): // the responder's own limit
			return auth.Identity{}, ctx.Err()
		}
	}))
	return release, first, others
}

// A client that leaves while it is authenticated is noticed at once: the backend is not asked about it any more, nothing is attached, and
// its places are free for the next.
func TestAClientThatLeavesIsNotOpened(t *testing.T) {
	t.Parallel()
	leave := map[string]func(t *testing.T, n *node, i int) (leave func()){
		"a socket that breaks": func(t *testing.T, n *node, i int) func() {
			p := n.dial(t)
			p.send(wire.Auth{Token: fmt.Sprint("gone", i)})
			return func() { _ = p.ws.NetConn().Close() }
		},
		"a close frame": func(t *testing.T, n *node, i int) func() {
			p := n.dial(t)
			p.send(wire.Auth{Token: fmt.Sprint("gone", i)})
			p.send(wire.Pong{})
			return func() {
				_ = p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1001, ""), time.Now().Add(patience))
				expect[wire.Hello](p)
				p.closed(1001)
			}
		},
		"events": func(t *testing.T, n *node, i int) func() {
			return n.asks(t, http.MethodGet, delivery.EventsPath, "", fmt.Sprint("gone", i))
		},
		"a list": func(t *testing.T, n *node, i int) func() {
			return n.asks(t, http.MethodGet, fmt.Sprintf("/v1/users/gone%d/notifications", i), "", fmt.Sprint("gone", i))
		},
		"an acknowledgement": func(t *testing.T, n *node, i int) func() {
			return n.asks(t, http.MethodPost, "/v1/ack", `{"epoch":"x","seq":1}`, fmt.Sprint("gone", i))
		},
	}
	for name, come := range leave {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const many = 5
			n := newNode(t, streamstest.Run(t).URL(), withKeys(apiKey), withLimits(delivery.Limits{Connections: 100}), func(c *nodeConfig) {
				c.auth = auth.RequesterConfig{Timeout: 2 * patience, MaxInFlight: 1, MaxWait: 2 * patience}
			})
			release, first, others := heldAnswers(t, n)
			p := n.dial(t)
			p.send(wire.Auth{Token: "first"})
			<-first
			var gone []func()
			for i := range many {
				gone = append(gone, come(t, n, i))
			}
			streamstest.Eventually(t, patience, func() error {
				if _, unknown, _ := n.gateway.Inside(); unknown != 1+many {
					return fmt.Errorf("%d are authenticated", unknown)
				}
				return nil
			})
			for _, leave := range gone {
				leave()
			}
			n.inside(t, 1, 1, 1) // before there is any answer
			close(release)
			expect[wire.Hello](p)
			expect[wire.Ready](p)
			if asked := others.Load(); asked != 0 {
				t.Errorf("the backend was asked about %d that had left", asked)
			}
			stream, err := n.js.Stream(t.Context(), streams.DefaultName)
			if err != nil {
				t.Fatal(err)
			}
			if have := stream.CachedInfo().State.Consumers; have != 2 {
				t.Errorf("there are %d consumers, want the gateway's and that of the first", have)
			}
		})
	}
}

// asks makes a request in the background, until leave.
func (n *node) asks(t *testing.T, method, target, body, token string) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, method, "http://"+n.address+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret(token))
	r.Header.Set("Content-Type", "application/json")
	done := make(chan error, 1)
	transport := &http.Transport{DisableKeepAlives: true}
	go func() {
		response, err := transport.RoundTrip(r)
		if err == nil {
			_ = response.Body.Close()
		}
		done <- err
	}()
	leave = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s %s: %v", method, target, err)
		}
		done <- context.Canceled
	}
	t.Cleanup(leave)
	return leave
}

// However long the backend and NATS may each take, there is one limit for all of it.
func TestOpeningHasOneTimeLimit(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), func(c *nodeConfig) {
		c.delivery.OpenWithin = 300 * time.Millisecond
		c.auth = auth.RequesterConfig{Timeout: 4 * patience, MaxWait: 4 * patience}
	})
	release, _, _ := heldAnswers(t, n)
	defer close(release)
	p := n.dial(t)
	p.send(wire.Auth{Token: "first"})
	if goaway := p.closed(wire.CloseUnavailable); goaway.RetryAfter < 2000 {
		t.Errorf("goaway: %+v", goaway)
	}
	n.call(t, http.MethodGet, delivery.EventsPath, "", "Authorization", "Bearer first").is(http.StatusServiceUnavailable)
	n.call(t, http.MethodPost, "/v1/ack", `{"epoch":"x","seq":1}`, "Authorization", "Bearer first").is(http.StatusServiceUnavailable)
}

// onceRead calls do, while the test reads, once the gateway has read what was sent before: it has answered a ping.
func (p *peer) onceRead(do func()) {
	p.t.Helper()
	p.ws.SetPongHandler(func(string) error { do(); return nil })
	if err := p.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
}

// resume returns the auth frame of a client that was connected before and has everything up to a sequence.
func (n *node) resume(t *testing.T, user string, after uint64) wire.Auth {
	t.Helper()
	stream, err := streams.Open(t.Context(), n.nc, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := stream.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return wire.Auth{Token: user, User: user, Epoch: state.Epoch, After: &after}
}

// What a client sends before ready is handled after it, however much that is.
func TestFramesBeforeReadyAreHandledAfterIt(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	release, first, _ := heldAnswers(t, n)
	n.to(t, "first", "1")
	last := n.to(t, "first", "2")
	p := n.dial(t)
	p.send(n.resume(t, "first", last))
	<-first
	p.send(wire.Pong{})
	p.raw(`{"type":"unheard-of"}`)
	p.send(wire.Ack{Seq: last})
	expect[wire.Hello](p)
	p.onceRead(func() {
		for range 200 { // more than are held
			p.send(wire.Ack{Seq: last})
		}
		p.send(wire.Ack{Seq: last + 1})
		p.send(wire.Renew{Token: "first"})
		close(release)
	})
	expect[wire.Ready](p)
	if e := await[wire.Error](p); e.Code != wire.ErrorBadAck {
		t.Errorf("error: %+v", e)
	}
	await[wire.Renewed](p)
	n.committed(t, streams.CursorID{User: "first"}, last, 0)
}

// A pong that was sent before ready does not confirm a gap that was written behind it.
func TestAPongBeforeReadyConfirmsNoGap(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	release, first, _ := heldAnswers(t, n)
	p := n.dial(t)
	p.send(wire.Auth{Token: "first", User: "first", Epoch: "another", After: ptr(uint64(7))})
	<-first
	p.send(wire.Pong{})
	expect[wire.Hello](p)
	p.onceRead(func() { close(release) })
	expect[wire.Ready](p)
	expect[wire.Gap](p)
	expect[wire.Live](p)
	if owed := n.gateway.Unconfirmed("first"); owed != 1 {
		t.Errorf("%d gaps are unconfirmed", owed)
	}
	p.send(wire.Pong{})
	streamstest.Eventually(t, patience, func() error {
		if owed := n.gateway.Unconfirmed("first"); owed != 0 {
			return fmt.Errorf("%d gaps are unconfirmed", owed)
		}
		return nil
	})
}

// A client may leave before the acknowledgements that it sent early are handled. They count all the same.
func TestEarlyAcknowledgementsOfAClientThatLeaves(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	release, first, _ := heldAnswers(t, n)
	last := n.to(t, "first", "1")
	n.reads(t, last)
	p := n.dial(t)
	p.send(n.resume(t, "first", last))
	<-first
	expect[wire.Hello](p)
	p.onceRead(func() {
		for range 31 { // each of them is answered
			p.send(wire.Ack{Seq: last + 1})
		}
		p.send(wire.Ack{Seq: last})
		close(release)
	})
	expect[wire.Ready](p)
	_ = p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(patience))
	n.committed(t, streams.CursorID{User: "first"}, last, 0)
}
