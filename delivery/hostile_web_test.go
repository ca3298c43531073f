package delivery_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// ask makes a request of a page of this origin.
func (n *node) ask(t *testing.T, method, path, origin string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", origin)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close() // unread: events would have no end
	return response
}

// Pages of other origins get 403 wherever a browser would send a token along, and nobody is asked about the token.
func TestForeignOriginsReachNobody(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey), func(c *nodeConfig) {
		c.delivery.Origins, c.delivery.TokenCookie = []string{"https://app.example"}, "session"
	})
	asked, err := n.nc.SubscribeSync(auth.DefaultSubject)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(n.address, ":")
	for _, origin := range []string{
		"https://evil.com", "https://app.example.evil.com", "https://evil.app.example", "https://evilapp.example", "https://app.example.",
		"null", "https://APP.EXAMPLE", "HTTPS://app.example", "http://app.example", "https://app.example:443", "https://app.example:8443",
		"wss://app.example", "https://app.example/", "https://app.example https://evil.com", "https://app.example,https://evil.com", "*",
		"app.example", "https://app.example@evil.com", "file://", "http://localhost:" + port, "http://127.0.0.1", "http://127.0.0.1:1" + port,
		"https://evil.com#" + n.address, "https://evil.com/" + n.address,
	} {
		for _, c := range []struct {
			method, path string
			headers      []string
		}{
			{http.MethodGet, wire.Path, []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}},
			{http.MethodGet, "/v1/sse", nil},
			{http.MethodPost, "/v1/ack", []string{"Content-Type", "application/json"}},
			{http.MethodOptions, "/v1/sse", []string{"Access-Control-Request-Method", "GET"}},
			{http.MethodOptions, "/v1/ack", []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"}},
			{http.MethodOptions, "/v1/users/alice/notifications", []string{"Access-Control-Request-Method", "GET"}},
		} {
			headers := append(slices.Clone(c.headers), "Cookie", "session=alice", "Authorization", "Bearer alice")
			response := n.ask(t, c.method, c.path, origin, headers...)
			if response.StatusCode != http.StatusForbidden || allows(response) {
				t.Errorf("%s %s of %s: %s, %v", c.method, c.path, origin, response.Status, response.Header)
			}
		}
	}
	if err := n.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if msg, err := asked.NextMsg(0); err == nil {
		t.Errorf("the backend was asked about %q", msg.Data)
	}
	// Whereas of an allowed one it is.
	if response := n.ask(t, http.MethodGet, "/v1/users/alice/notifications", "https://app.example", "Authorization", "Bearer alice"); response.StatusCode != 200 {
		t.Error(response.Status)
	}
	if _, err := asked.NextMsg(patience); err != nil {
		t.Error(err)
	}
}

func allows(r *http.Response) bool {
	for name := range r.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			return true
		}
	}
	return false
}

// What backends and operators use is for no page, of whatever origin: no answer of it may be read, and no preflight succeeds.
func TestCORSIsClosedForBackends(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey), func(c *nodeConfig) { c.delivery.Origins = []string{"https://app.example"} })
	for _, origin := range []string{"https://app.example", "http://" + n.address, "https://evil.com", "null"} {
		for path, methods := range map[string][]string{
			"/v1/notifications":           {http.MethodPost, http.MethodGet},
			"/v1/users/alice":             {http.MethodGet},
			"/v1/users/alice/connections": {http.MethodDelete},
			"/metrics":                    {http.MethodGet},
			"/debug/pprof/":               {http.MethodGet},
			"/readyz":                     {http.MethodGet},
			"/v1/nothing":                 {http.MethodGet},
		} {
			for _, method := range methods {
				if r := n.ask(t, method, path, origin, "Authorization", "Bearer "+apiKey); allows(r) {
					t.Errorf("%s %s of %s: %v", method, path, origin, r.Header)
				}
				r := n.ask(t, http.MethodOptions, path, origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization")
				if r.StatusCode < 400 || allows(r) {
					t.Errorf("preflight of %s %s of %s: %s, %v", method, path, origin, r.Status, r.Header)
				}
			}
		}
	}
}

// However a backend, or who has got hold of its form, dresses it up: a publication becomes these headers of NATS and no others, or nothing.
func TestPublicationsMakeNoHeaders(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	foreign := []string{
		"Nats-TTL", "1s", "Nats-Rollup", "all", "Nats-Expected-Stream", "X", "Nats-Expected-Last-Sequence", "7", "Nats-Msg-Id", "x",
		"Nats-Schedule", "@at 2099-01-01T00:00:00Z", "Nats-Schedule-Target", "notify.user.bob", "Tidings-Kind", "forged", "Tidings-Id", "forged", "Tidings-Digest", "forged",
	}
	for _, body := range []string{
		`{"to":"alice","kind":"Nats-TTL: 1s","id":"Nats-Rollup: all","data":"x"}`,
		`{"to":["alice","bob"],"kind":"a: b","id":"x:y","data":"\r\nNats-TTL: 1s\r\n\r\n","ttl":"1h"}`,
	} {
		n.publishes(t, 202, body, foreign...)
	}
	last := n.to(t, "alice", "last")
	for _, body := range []string{
		`{"to":"alice","kind":"x\u0000"}`, `{"to":"alice","id":"\u0000"}`, `{"to":"alice","id":"x\u000aNats-Rollup: all"}`,
		`{"to":"alice","kind":"x\u000d\u000aNats-TTL: 1s"}`, `{"to":"alice","kind":"x\u000dNats-TTL: 1s"}`, `{"to":"alice","kind":" Nats-TTL"}`,
		`{"to":"alice","id":"x\u007f"}`, `{"to":"alice","contentType":"text/plain\r\nNats-TTL: 1s"}`, `{"to":"alice","headers":{"Nats-TTL":"1s"}}`,
		`{"to":"alice","Nats-TTL":"1s"}`, `{"to":"alice","ttl":"1h\r\nNats-Rollup: all"}`, `{"topic":"all","id":"x\r\n\r\nPUB notify.user.bob 1\r\nx"}`,
	} {
		n.call(t, http.MethodPost, "/v1/notifications", body, foreign...).is(http.StatusBadRequest)
	}
	n.call(t, http.MethodPost, "/v1/notifications", `{"to":"alice"}`, "Idempotency-Key", "a\tNats-TTL: 1s").is(http.StatusBadRequest)
	if after := n.to(t, "alice", "after"); after != last+1 {
		t.Errorf("something was stored: seq %d after %d", after, last)
	}
	stream, err := n.js.Stream(t.Context(), streams.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{ // "": anything
		nats.MsgIdHdr: "", "Tidings-Id": "", "Tidings-Kind": "", streams.HeaderDigest: "", "Nats-TTL": "1h0m0s", nats.ExpectedStreamHdr: streams.DefaultName,
		// By the read, and not stored.
		"Nats-Stream": streams.DefaultName, "Nats-Subject": "", "Nats-Sequence": "", "Nats-Time-Stamp": "",
	}
	for seq := range last - 1 {
		raw, err := stream.GetMsg(t.Context(), seq+1)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range raw.Header {
			if value, known := want[name]; !known || value != "" && !slices.Equal(values, []string{value}) || slices.Contains(values, "forged") {
				t.Errorf("seq %d has a header %s: %q", seq+1, name, values)
			}
		}
	}
}
