package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

type userState struct {
	User, Device, Epoch string
	Position            *uint64
	Unread              uint64
	Since               *time.Time
	Connections         int
}

// Names that a path must carry.
var oddUsers = []string{"alice", "a/b", "a.b@x.com", "a b", "100%", "%41", "é?#", "a%2Fb", "..."}

func TestAUserOverHTTP(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	for _, user := range oddUsers {
		path := "/v1/users/" + url.PathEscape(user)
		if p := as[problem](n.call(t, http.MethodGet, path, "").is(404)); !strings.Contains(p.Detail, "never connected") {
			t.Errorf("%+v", p)
		}
		n.to(t, user, "1")
		seq := n.to(t, user, "2")
		if s := as[userState](n.call(t, http.MethodGet, path, "").is(200)); s.User != user || s.Position != nil || s.Unread != 2 || s.Since != nil {
			t.Errorf("%q before it connects: %+v", user, s)
		}
		p, ready := n.enter(t, wire.Auth{Token: user})
		await[wire.Live](p)
		p.send(wire.Ack{Seq: seq - 1})
		streamstest.Eventually(t, patience, func() error {
			s := as[userState](n.call(t, http.MethodGet, path, "").is(200))
			if s.User != user || s.Position == nil || *s.Position != seq-1 || s.Unread != 1 || s.Connections != 1 ||
				s.Epoch != ready.Epoch || s.Since == nil || time.Since(*s.Since) > time.Hour {
				return fmt.Errorf("%q: %+v", user, s)
			}
			return nil
		})
		// A device of it.
		n.call(t, http.MethodGet, path+"?device=phone", "").is(404)
		_, _ = n.enter(t, wire.Auth{Token: user, Device: "phone"})
		if s := as[userState](n.call(t, http.MethodGet, path+"?device=phone", "").is(200)); s.Device != "phone" || s.Position == nil ||
			*s.Position != seq-1 || s.Connections != 1 {
			t.Errorf("%q, phone: %+v", user, s)
		}
		if s := as[userState](n.call(t, http.MethodGet, path, "").is(200)); s.Connections != 2 {
			t.Errorf("%q: %+v", user, s)
		}
	}
	for path, detail := range map[string]string{
		"/v1/users/" + strings.Repeat("%C3%A9", 70): "420 bytes when encoded",
		"/v1/users/%FF":                           "not valid UTF-8",
		"/v1/users/%EF%BF%BD":                     "U+FFFD",
		"/v1/users/alice?device=%FF":              "not valid UTF-8",
		"/v1/users/alice?device=%EF%BF%BD":        "U+FFFD",
		"/v1/users//notifications":                `user ""`,
		"/v1/users/alice/notifications?limit=0":   "limit must be",
		"/v1/users/alice/notifications?limit=101": "limit must be",
		"/v1/users/alice/notifications?before=x":  "before must be",
	} {
		if p := as[problem](n.call(t, http.MethodGet, path, "").is(400)); !strings.Contains(p.Detail, detail) {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

func TestDisconnectOverHTTP(t *testing.T) {
	t.Parallel()
	a := newTown(t, withKeys(apiKey))
	b := newNode(t, a.url, withKeys(apiKey))
	for _, user := range []string{"alice", "a/b"} {
		path := "/v1/users/" + url.PathEscape(user) + "/connections"
		own, _ := a.live(t, user)
		phone, _ := b.enter(t, wire.Auth{Token: user, Device: "phone"})
		other, _ := b.live(t, user+"?")
		a.call(t, http.MethodDelete, path+"?device=%FF", "").is(400)
		if got := a.call(t, http.MethodDelete, path+"?device=phone&reason=lost", "").is(200); !strings.HasPrefix(got.body, `{"closed":1,`) {
			t.Errorf("%s", got.body)
		}
		phone.closed(4410)
		if got := a.call(t, http.MethodDelete, path, "").is(200); !strings.HasPrefix(got.body, `{"closed":1,`) {
			t.Errorf("%s", got.body)
		}
		own.closed(4410)
		n := a.to(t, user+"?", "still here")
		if m := expect[wire.Msg](other); m.Seq != n {
			t.Errorf("%+v", m)
		}
	}
	if got := a.call(t, http.MethodDelete, "/v1/users/nobody/connections", "").is(200); !strings.HasPrefix(got.body, `{"closed":0,`) {
		t.Errorf("%s", got.body)
	}
}

type page struct {
	Epoch         string
	Notifications []struct {
		Type string
		Seq  uint64
		Data string
	}
	Before uint64
}

func TestNotificationsOverHTTP(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example"
	n := newTown(t, withKeys(apiKey), func(c *nodeConfig) { c.delivery.Origins = []string{origin} })
	path := "/v1/users/a%2Fb/notifications"
	if p := as[page](n.call(t, http.MethodGet, path, "").is(200)); p.Notifications == nil || len(p.Notifications) != 0 || p.Before != 0 || p.Epoch == "" {
		t.Errorf("%+v", p)
	}
	var want []uint64
	for i := range 25 {
		want = append([]uint64{n.to(t, "a/b", fmt.Sprintf(`"%d"`, i))}, want...)
		n.to(t, "bob", "another's")
	}
	for _, limit := range []int{1, 5, 7, 20, 25, 100} {
		var got []uint64
		for before := uint64(0); ; {
			target := fmt.Sprintf("%s?limit=%d", path, limit)
			if before > 0 {
				target += fmt.Sprintf("&before=%d", before)
			}
			p := as[page](n.call(t, http.MethodGet, target, "", "Authorization", "Bearer a/b").is(200))
			for i, m := range p.Notifications {
				if m.Type != "msg" || m.Data != fmt.Sprint(24-len(got)) {
					t.Errorf("message %d: %+v", i, m)
				}
				got = append(got, m.Seq)
			}
			if p.Before == 0 {
				break
			}
			if len(p.Notifications) != limit || p.Before != got[len(got)-1] {
				t.Errorf("limit %d: %+v", limit, p)
			}
			before = p.Before
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
	// Whoever asks with a token sees their own.
	for token, status := range map[string]int{"bob": 403, "": 401, apiKey: 200} {
		a := n.call(t, http.MethodGet, path, "", "Authorization", "Bearer "+token)
		if a.status != status {
			t.Errorf("token %q: %d %s", token, a.status, a.body)
		}
	}
	// Pages on allowed origins may, those on others may not; and nothing else may from any.
	for origin, allowed := range map[string]bool{origin: true, "https://evil.example": false, "http://" + n.address: true} {
		for _, method := range []string{http.MethodOptions, http.MethodGet} {
			a := n.call(t, method, path, "", "Origin", origin, "Access-Control-Request-Method", "GET")
			cors := a.header.Get("Access-Control-Allow-Origin")
			if (cors == origin) != allowed || !allowed && cors != "" || a.header.Get("Vary") != "Origin" {
				t.Errorf("%s from %s: %d %v", method, origin, a.status, a.header)
			}
			if method == http.MethodOptions && allowed != (a.header.Get("Access-Control-Allow-Headers") == "Authorization") {
				t.Errorf("%s from %s: %d %v", method, origin, a.status, a.header)
			}
		}
		for _, path := range []string{"/v1/notifications", "/v1/users/bob", "/v1/users/bob/connections"} {
			for _, method := range []string{http.MethodOptions, http.MethodGet, http.MethodPost, http.MethodDelete} {
				if a := n.call(t, method, path, "", "Origin", origin); a.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s %s from %s: %v", method, path, origin, a.header)
				}
			}
		}
	}
}

// A page holds a megabyte or so, and at least one notification.
func TestAPageOfLargeNotifications(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	for range 6 {
		n.to(t, "alice", `"`+strings.Repeat("x", 255<<10)+`"`)
	}
	p := as[page](n.call(t, http.MethodGet, "/v1/users/alice/notifications", "").is(200))
	if len(p.Notifications) != 5 || p.Before != 2 {
		t.Errorf("%d, before %d", len(p.Notifications), p.Before)
	}
	p = as[page](n.call(t, http.MethodGet, "/v1/users/alice/notifications?before=2", "").is(200))
	if len(p.Notifications) != 1 || p.Before != 0 {
		t.Errorf("%d, before %d", len(p.Notifications), p.Before)
	}
}

func retryAfter(a answer) int {
	n, _ := strconv.Atoi(a.header.Get("Retry-After"))
	return n
}

func TestTokensThatAreRefusedOverHTTP(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), withKeys(apiKey), func(c *nodeConfig) { c.auth.Timeout = time.Second })
	for reply, status := range map[string]int{
		`{"success":false,"error":"whatever","message":"no"}`: 401,
		`{"success":false,"error":"token_expired"}`:           401,
		`{"success":false,"error":"forbidden"}`:               403,
		`{"success":false,"error":"busy","retry_after":7}`:    503,
		`{"success":true}`: 401,
		`<html>`:           401,
		`{"success":true,"user_id":"somebody else"}`:            403,
		`{"success":true,"user_id":"alice","expires_in":0}`:     401,
		`{"success":true,"user_id":"alice","topics":["a","b"]}`: 200,
	} {
		t.Run(reply, func(t *testing.T) {
			n.replies(t, reply)
			a := n.call(t, http.MethodGet, "/v1/users/alice/notifications", "", "Authorization", "Bearer secret-token").is(status)
			if strings.Contains(a.body, "secret") || status == 503 && retryAfter(a) < 7 {
				t.Errorf("%v %s", a.header, a.body)
			}
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		a := n.call(t, http.MethodGet, "/v1/users/alice/notifications", "", "Authorization", "Bearer secret-token").is(503)
		if retryAfter(a) < 1 {
			t.Errorf("%v", a.header)
		}
	})
}

// Without an API key a user's own list can be read all the same.
func TestNotificationsWithoutAKey(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	seq := n.to(t, "alice", "hello")
	p := as[page](n.call(t, http.MethodGet, "/v1/users/alice/notifications", "", "Authorization", "Bearer alice").is(200))
	if len(p.Notifications) != 1 || p.Notifications[0].Seq != seq {
		t.Errorf("%+v", p)
	}
	n.call(t, http.MethodGet, "/v1/users/alice/notifications", "", "Authorization", "Bearer bob").is(403)
	n.call(t, http.MethodGet, "/v1/users/alice/notifications", "", "Authorization", "").is(401)
	n.call(t, http.MethodGet, "/v1/users/alice/notifications", "", "Authorization", "Basic YTpi").is(401)
	n.call(t, http.MethodGet, "/v1/users/alice", "", "Authorization", "Bearer alice").is(403)
	n.call(t, http.MethodPost, "/v1/notifications", `{"to":"alice"}`, "Authorization", "Bearer alice").is(403)
}

// The backend is asked about no API key, however a client came by it.
func TestAPIKeysAreNotSentToTheBackend(t *testing.T) {
	t.Parallel()
	const revoked, mistyped = "a-key-that-was-good-once", delivery.KeyPrefix + "0123456789abcdef"
	n := newNode(t, streamstest.Run(t).URL(), withKeys(apiKey, revoked))
	var asked journal
	n.answer(t, auth.AuthenticatorFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		_, _ = asked.Write([]byte(r.Token + "\n"))
		return auth.Identity{User: "alice", ExpiresIn: time.Minute}, nil
	}))
	var now delivery.Keys
	if err := now.Add(apiKey); err != nil {
		t.Fatal(err)
	}
	n.gateway.SetKeys(now)
	n.gateway.SetKeys(now) // and again
	p, _ := n.live(t, "alice")
	for _, key := range []string{revoked, mistyped, strings.ToUpper(mistyped), apiKey} {
		status := http.StatusUnauthorized
		bearer := []string{"Authorization", "Bearer " + key}
		n.call(t, http.MethodGet, "/v1/sse", "", bearer...).is(status)
		n.call(t, http.MethodPost, "/v1/ack", `{"epoch":"x","seq":1}`, bearer...).is(status)
		if key == apiKey {
			status = http.StatusOK
		}
		n.call(t, http.MethodGet, "/v1/users/alice/notifications", "", bearer...).is(status)
		ws := n.dial(t)
		expect[wire.Hello](ws)
		ws.send(wire.Auth{Token: strings.TrimPrefix(key, streamstest.Canary)})
		ws.closed(wire.CloseUnauthorized)
	}
	p.send(wire.Renew{Token: mistyped})
	p.closed(wire.CloseUnauthorized)
	if got := asked.saying(""); len(got) != 1 || !strings.Contains(got[0], "alice") {
		t.Errorf("the backend was asked about %q", got)
	}
}

// Several keys are good at once, and none is: then the API says that it is off.
func TestKeysAreRotated(t *testing.T) {
	t.Parallel()
	url := streamstest.Run(t).URL()
	const first, second = "the-first-key-of-all", "the-second-key-of-all"
	for _, good := range [][]string{{first}, {first, second}, {second}, {}} {
		n := newNode(t, url, withKeys(good...))
		for _, key := range []string{first, second, "", "the-third-key-of-all", first + second} {
			want := 401
			for _, g := range good {
				if g == key {
					want = 202
				}
			}
			if len(good) == 0 {
				want = 403
			}
			for _, c := range [][3]string{
				{http.MethodPost, "/v1/notifications", `{"to":"alice"}`},
				{http.MethodGet, "/v1/users/alice", ""},
				{http.MethodDelete, "/v1/users/alice/connections", ""},
			} {
				method, path, body := c[0], c[1], c[2]
				a := n.call(t, method, path, body, "Authorization", "Bearer "+key)
				if a.status != want && (want != 202 || a.status != 200) {
					t.Errorf("%v: %s %s with %q: %d %s, want %d", good, method, path, key, a.status, a.body, want)
				}
				if want == 403 && !strings.Contains(a.body, "--api-keys") {
					t.Errorf("%s", a.body)
				}
			}
		}
		n.stop()
	}
	// The demo page has a key of its own.
	n := newNode(t, url, func(c *nodeConfig) { c.delivery.DemoKey = secret("the-key-of-the-page") })
	n.call(t, http.MethodPost, "/v1/notifications", `{"to":"alice"}`, "Authorization", "Bearer the-key-of-the-page").is(202)
}

func TestReadingKeys(t *testing.T) {
	for file, want := range map[string]string{
		"0123456789abcdef": "",
		"# ours\n\n 0123456789abcdef # old\r\nfedcba9876543210\n": "",
		"0123456789abcdef\nshort\n":                               "line 2: an API key is 16 characters at least",
		"0123456789 abcdef0123456789":                             "line 1: an API key",
		"0123456789abcdefé":                                       "line 1: an API key",
		"# nothing\n":                                             "there is no key in it",
		"":                                                        "there is no key in it",
		strings.Repeat("x", 70_000):                               "too long",
	} {
		var keys delivery.Keys
		err := keys.Read(strings.NewReader(file))
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.60q: %v, want %q", file, err, want)
		case err != nil && strings.Contains(err.Error(), "short\n"):
			t.Errorf("it tells the key: %v", err)
		}
	}
}

// While NATS is away everything says so at once, and when to come again.
func TestHTTPWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	n := newNode(t, server.URL(), withKeys(apiKey))
	n.answer(t, auth.TokenIsUser("all"))
	n.to(t, "alice", "1")
	server.Stop()
	began := time.Now()
	for _, c := range [][3]string{
		{http.MethodPost, "/v1/notifications", `{"to":"alice"}`},
		{http.MethodGet, "/v1/users/alice", ""},
		{http.MethodGet, "/v1/users/alice/notifications", ""},
		{http.MethodDelete, "/v1/users/alice/connections", ""},
	} {
		streamstest.Eventually(t, patience, func() error { // until the gateway has noticed
			a := n.call(t, c[0], c[1], c[2])
			if a.status != 503 || retryAfter(a) < 1 {
				return fmt.Errorf("%s %s: %d %v %s", c[0], c[1], a.status, a.header, a.body)
			}
			return nil
		})
	}
	t.Logf("told in %s", time.Since(began))
}
