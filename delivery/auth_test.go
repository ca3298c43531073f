package delivery_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

var tokenIsUser = auth.TokenIsUser("all")

// replies answers every question with the same bytes.
func (b *backend) replies(t *testing.T, reply string) {
	t.Helper()
	sub, err := b.nc.Subscribe(auth.DefaultSubject, func(m *nats.Msg) { _ = m.Respond([]byte(reply)) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
}

func TestRefusalsBecomeCloseCodes(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	n := newNode(t, server.URL(), func(c *nodeConfig) { c.auth.Timeout = 300 * time.Millisecond })
	for name, c := range map[string]struct {
		reply string
		code  wire.CloseCode
	}{
		"refused":          {`{"success":false,"error":"whatever","message":"no"}`, 4401},
		"expired":          {`{"success":false,"error":"token_expired"}`, 4501},
		"forbidden":        {`{"success":false,"error":"forbidden"}`, 4403},
		"busy":             {`{"success":false,"error":"busy","retry_after":7}`, 4503},
		"no user":          {`{"success":true}`, 4401},
		"empty user":       {`{"success":true,"user_id":""}`, 4401},
		"rubbish":          {`<html>`, 4401},
		"nothing":          {``, 4401},
		"a lease of zero":  {`{"success":true,"user_id":"42","expires_in":0}`, 4501},
		"a name too long":  {`{"success":true,"user_id":"` + strings.Repeat("é", 90) + `"}`, 4401},
		"a long topic":     {`{"success":true,"user_id":"42","topics":["` + strings.Repeat("é", 90) + `"]}`, 4401},
		"a broken name":    {`{"success":true,"user_id":"a\ud800"}`, 4401},
		"a user twice":     {`{"success":true,"user_id":"42","user_id":"43"}`, 4401},
		"another spelling": {`{"success":true,"user_id":"42","User_ID":"43"}`, 4401},
	} {
		t.Run(name, func(t *testing.T) {
			n.replies(t, c.reply)
			p := n.dial(t)
			expect[wire.Hello](p)
			p.send(wire.Auth{Token: "secret"})
			goaway := p.closed(c.code)
			if c.code == 4503 && (goaway.RetryAfter < 7000 || goaway.RetryAfter > 10500) {
				t.Errorf("goaway: %+v", goaway)
			}
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		p := n.dial(t)
		expect[wire.Hello](p)
		p.send(wire.Auth{Token: "secret"})
		if goaway := p.closed(4503); goaway.RetryAfter == 0 {
			t.Error("no retry_after")
		}
	})
	t.Run("the answer comes too late", func(t *testing.T) {
		n.answer(t, auth.AuthenticatorFunc(func(ctx context.Context, _ auth.Request) (auth.Identity, error) {
			<-ctx.Done()
			return auth.Identity{}, ctx.Err()
		}))
		p := n.dial(t)
		expect[wire.Hello](p)
		p.send(wire.Auth{Token: "secret"})
		p.closed(4503)
	})
}

// A token may be a word that the reply is made of: its codes keep their meaning.
func TestATokenMayEqualACode(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	for _, c := range []struct {
		token, code string
		want        wire.CloseCode
	}{
		{"expired", "token_expired", 4501}, {"token_expired", "token_expired", 4501}, {"_", "token_expired", 4501},
		{"forbidden", "forbidden", 4403}, {"for", "forbidden", 4403}, {"banned", "banned", 4401},
	} {
		t.Run(c.token, func(t *testing.T) {
			n.replies(t, `{"success":false,"error":"`+c.code+`"}`)
			p := n.dial(t)
			expect[wire.Hello](p)
			p.raw(`{"type":"auth","token":"` + c.token + `"}`)
			p.closed(c.want)
		})
	}
}

// Where too many wait for an answer, those who come are told so before long, and each when to come again.
func TestABusyBackendIsNotAskedMore(t *testing.T) {
	server := streamstest.Run(t)
	n := newNode(t, server.URL(), func(c *nodeConfig) {
		c.auth = auth.RequesterConfig{Timeout: patience, MaxInFlight: 1, MaxWait: 50 * time.Millisecond}
	})
	asked, answer := make(chan struct{}), make(chan struct{})
	n.answer(t, auth.AuthenticatorFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		if r.Token == "first" {
			close(asked)
			<-answer
		}
		return auth.Identity{User: r.Token}, nil
	}))
	first := n.dial(t)
	expect[wire.Hello](first)
	first.send(wire.Auth{Token: "first"})
	<-asked
	times := map[int64]bool{}
	for range 5 {
		p := n.dial(t)
		expect[wire.Hello](p)
		p.send(wire.Auth{Token: "second"})
		goaway := p.closed(4503)
		times[goaway.RetryAfter] = true
		if goaway.Reason != "authentication is busy" || goaway.RetryAfter < 2000 || goaway.RetryAfter > 10_000 {
			t.Errorf("goaway: %+v", goaway)
		}
	}
	if len(times) < 3 {
		t.Errorf("they come again at the same time: %v", times)
	}
	close(answer)
	expect[wire.Ready](first)
}

func TestTheBackendIsAskedAsTheContractSays(t *testing.T) {
	n := newNode(t, streamstest.Run(t).URL())
	asked := make(chan *nats.Msg, 1)
	sub, err := n.nc.Subscribe(auth.DefaultSubject, func(m *nats.Msg) {
		asked <- m
		_ = m.Respond([]byte(`{"success":true,"user_id":1}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := n.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	p := n.dial(t, "Origin", "http://"+n.address, "User-Agent", "test/1")
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "  exactly \x00 this ", Device: "web"})
	ready := expect[wire.Ready](p)
	m := <-asked
	if string(m.Data) != secret("  exactly \x00 this ") {
		t.Errorf("token %q", m.Data)
	}
	if ready.User != "1" || m.Header.Get("Tidings-Conn") != ready.Conn || m.Header.Get("Tidings-Origin") != "http://"+n.address ||
		m.Header.Get("Tidings-User-Agent") != "test/1" || m.Header.Get("Tidings-Device") != "web" ||
		!strings.HasPrefix(m.Header.Get("Tidings-Remote-Addr"), "127.0.0.1:") || m.Header.Get("Tidings-Renew") != "" {
		t.Errorf("%+v asked with %v", ready, m.Header)
	}
}

// leases answers the token "user/seconds" with that user and lease.
func (b *backend) leases(t *testing.T, lease time.Duration, topics ...string) {
	b.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		user, more, _ := strings.Cut(r.Token, "+")
		id := auth.Identity{User: user, ExpiresIn: lease, Topics: topics}
		if more != "" {
			id.Topics = append(id.Topics, strings.Split(more, "+")...)
		}
		return id, nil
	}))
}

func TestALeaseEndsToTheSecond(t *testing.T) {
	n := newNode(t, streamstest.Run(t).URL(), func(c *nodeConfig) { c.stream.MaxMsgsPerSubject = -1 }) // however far the gateway lags
	n.leases(t, 1500*time.Millisecond)
	began := time.Now()
	p, ready := n.live(t, "alice")
	if ready.ExpiresIn != 1500 {
		t.Errorf("ready: %+v", ready)
	}
	if e := expect[wire.Expiring](p); e.In <= 0 || e.In > 750 {
		t.Errorf("expiring: %+v", e)
	}
	stop := make(chan struct{})
	flooded := make(chan struct{})
	go func() { // frames that could be written past the end
		defer close(flooded)
		for {
			select {
			case <-stop:
				return
			default:
				_ = n.nc.Publish("notify.user.alice", []byte("x"))
				_ = n.nc.Flush()
			}
		}
	}()
	p.closed(4501)
	close(stop)
	<-flooded
	if lasted := time.Since(began); lasted < 1500*time.Millisecond || lasted > 1500*time.Millisecond+patience {
		t.Errorf("it lasted %s", lasted)
	}
}

func TestALeaseIsRenewedInBand(t *testing.T) {
	n := newNode(t, streamstest.Run(t).URL())
	n.leases(t, 2*time.Second)
	p, _ := n.live(t, "alice")
	await[wire.Expiring](p)
	p.send(wire.Renew{Token: "alice+news"})
	if r := await[wire.Renewed](p); r.ExpiresIn != 2000 {
		t.Errorf("renewed: %+v", r)
	}
	n.toTopic(t, "news", `"granted on renewal"`)
	if m := await[wire.Msg](p); m.Topic != "news" {
		t.Errorf("msg: %+v", m)
	}
	await[wire.Expiring](p)
	p.send(wire.Renew{Token: "bob"})
	p.closed(4403)
}

// A user who can have no subject is the backend's mistake: in the code, the log and the metrics.
func TestAUserThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	log := &journal{}
	n := newNode(t, streamstest.Run(t).URL(), func(c *nodeConfig) { c.log = log })
	n.replies(t, `{"success":true,"user_id":"`+strings.Repeat("é", 90)+`"}`)
	p := n.dial(t)
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "alice"})
	if goaway := p.closed(4401); strings.Contains(goaway.Reason, "é") {
		t.Errorf("%+v", goaway)
	}
	n.call(t, http.MethodGet, "/v1/sse", "", "Authorization", "Bearer alice").is(http.StatusUnauthorized)
	n.shows(t, map[string]float64{
		`tidings_auth_requests_total{result="bad_reply"}`:            2,
		`tidings_auth_requests_total{result="admitted"}`:             0,
		`tidings_connections_closed_total{by="gateway",code="4401"}`: 2,
	})
	told := log.saying("user_id: unusable name: 540 bytes")
	if len(told) == 0 || !strings.Contains(told[0], "nobody said whether a token is good") || strings.Contains(told[0], "é") {
		t.Errorf("the log says %q", told)
	}
}

// That nobody answers for tokens is told without being asked for: once a minute, and not for each client.
func TestSilenceOfTheBackendIsLogged(t *testing.T) {
	t.Parallel()
	log := &journal{}
	n := newNode(t, streamstest.Run(t).URL(), func(c *nodeConfig) { c.log, c.auth.Timeout = log, 200*time.Millisecond })
	for range 3 {
		p := n.dial(t)
		expect[wire.Hello](p)
		p.send(wire.Auth{Token: "alice"})
		p.closed(4503)
	}
	if told := log.saying("start a responder"); len(told) != 4 || !strings.Contains(told[0], `"level":"warn"`) { // and each connection's end
		t.Errorf("the log says %q", told)
	}
}
