package delivery_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// listener is a client of server-sent events, as the HTML Standard has it.
type listener struct {
	t    *testing.T
	body io.Closer
	in   *bufio.Reader
	last string // id
}

type event struct {
	name, retry string
	frame       wire.Frame
}

// hear opens the events of whoever the token is of.
func (n *node) hear(t *testing.T, token string, headers ...string) (*listener, *http.Response) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.address+delivery.EventsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+secret(token))
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "query" {
			r.URL.RawQuery = headers[i+1]
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return &listener{t: t, body: response.Body, in: bufio.NewReader(response.Body)}, response
}

// next is the next event, or nil at the end. Comments are read over, but not their ids.
func (l *listener) next() *event {
	l.t.Helper()
	late := time.AfterFunc(patience, func() { _ = l.body.Close() })
	defer late.Stop()
	var e event
	var data string
	for {
		line, err := l.in.ReadString('\n')
		if err != nil {
			return nil
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			e.name = value
		case "id":
			l.last = value
		case "retry":
			e.retry = value
		case "data":
			data = value
		case "":
			if line == "\n" && data != "" {
				if e.frame, err = wire.Decode([]byte(data)); err != nil || e.frame == nil || e.frame.Type() != e.name {
					l.t.Fatalf("event %q with %q: %v", e.name, data, err)
				}
				return &e
			}
		default:
			l.t.Fatalf("a line %q", line)
		}
	}
}

func hears[F wire.Frame](l *listener) F {
	l.t.Helper()
	e := l.next()
	if e == nil {
		l.t.Fatalf("the events ended, want %T", *new(F))
	}
	f, ok := e.frame.(F)
	if !ok {
		l.t.Fatalf("%#v, want %T", e.frame, f)
	}
	return f
}

// seqs are those of the messages until live.
func (l *listener) seqs() (seqs []uint64) {
	l.t.Helper()
	for {
		e := l.next()
		if e == nil {
			l.t.Fatal("the events ended before live")
		}
		switch f := e.frame.(type) {
		case wire.Msg:
			seqs = append(seqs, f.Seq)
		case wire.Live:
			return seqs
		}
	}
}

// A polyfill of EventSource sends headers that a browser asks about first.
func TestPagesMaySendTheHeadersOfEventSource(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example"
	n := newTown(t, func(c *nodeConfig) { c.delivery.Origins = []string{origin} })
	a := n.call(t, http.MethodOptions, delivery.EventsPath, "", "Origin", origin, "Access-Control-Request-Method", "GET",
		"Access-Control-Request-Headers", "authorization,cache-control,last-event-id")
	a.is(http.StatusNoContent)
	if got := a.header.Get("Access-Control-Allow-Headers"); got != "Authorization, Cache-Control, Last-Event-ID" {
		t.Errorf("allowed: %s", got)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	first := n.to(t, "a.b@x.com", `{"n":1}`)
	l, response := n.hear(t, "a.b@x.com")
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" || response.Header.Get("Cache-Control") != "no-store, no-transform" {
		t.Errorf("%v", response.Header)
	}
	ready := hears[wire.Ready](l)
	if ready.User != "a.b@x.com" || ready.Unread != 1 {
		t.Errorf("%+v", ready)
	}
	if got := l.seqs(); !slices.Equal(got, []uint64{first}) {
		t.Errorf("replayed %d, want %d", got, first)
	}
	n.to(t, "bob", "1")
	second, third := n.to(t, "a.b@x.com", "2"), n.toTopic(t, "all", "3")
	for _, want := range []uint64{second, third} {
		if got := hears[wire.Msg](l); got.Seq != want {
			t.Errorf("%+v, want %d", got, want)
		}
	}
	if want := fmt.Sprintf("%s.%d.a%%2Eb%%40x%%2Ecom", ready.Epoch, third); l.last != want {
		t.Errorf("id %q, want %q", l.last, want)
	}
	_ = l.body.Close()
	n.connected(t, "a.b@x.com", 0)

	// It comes again with the id, and gets what it missed, although nothing was acknowledged.
	fourth := n.to(t, "a.b@x.com", "4")
	again, _ := n.hear(t, "a.b@x.com", "Last-Event-ID", l.last)
	if got := hears[wire.Ready](again); got.After != third {
		t.Errorf("after %d, want %d", got.After, third)
	}
	if got := again.seqs(); !slices.Equal(got, []uint64{fourth}) {
		t.Errorf("got %d, want %d", got, fourth)
	}
	// Another user goes not on there, in the same browser; and of another epoch than the stream's the id is worth a gap.
	bob, _ := n.hear(t, "bob", "Last-Event-ID", l.last)
	if got := hears[wire.Ready](bob); got.After != 0 {
		t.Errorf("bob begins behind %d", got.After)
	}
	// Past the end, as after a restored backup, it goes back to the id of ready, although the epoch is the same.
	past, _ := n.hear(t, "dave", "Last-Event-ID", fmt.Sprintf("%s.%d.dave", ready.Epoch, fourth+100))
	if got := hears[wire.Ready](past); got.After != 0 || past.last != ready.Epoch+".0.dave" {
		t.Errorf("after %d, id %q", got.After, past.last)
	}
	old, _ := n.hear(t, "carol", "Last-Event-ID", "old.7.carol")
	hears[wire.Ready](old)
	if got := hears[wire.Gap](old); got.Reason != wire.GapStreamReset {
		t.Errorf("%+v", got)
	}
}

// Where nothing comes for a client, comments keep its connection alive and its position near the stream's end.
func TestEventsOfAnIdleClient(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.delivery.Ping = 20 * time.Millisecond })
	l, _ := n.hear(t, "alice")
	epoch := hears[wire.Ready](l).Epoch
	l.seqs()
	last := n.to(t, "bob", "1")
	heard := make(chan struct{})
	go func() { defer close(heard); l.next() }()
	streamstest.Eventually(t, patience, func() error { // a position far behind would be told of a gap one day
		_, err := n.publish.User(t.Context(), "bob", streams.Notification{Data: []byte("2")})
		if err != nil {
			t.Fatal(err)
		}
		return n.floorAt(t, streams.CursorID{User: "alice"}, last)
	})
	_ = l.body.Close()
	<-heard
	var at uint64
	if _, err := fmt.Sscanf(l.last, epoch+".%d.alice", &at); err != nil || at < last {
		t.Errorf("id %q (%v), want one of %d or later", l.last, err, last)
	}
}

// floorAt is an error until the durable is there or further.
func (b *backend) floorAt(t *testing.T, id streams.CursorID, least uint64) error {
	t.Helper()
	name, err := streams.ConsumerName(id)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := b.js.Consumer(t.Context(), streams.DefaultName, name)
	if err != nil {
		return err
	}
	if at := consumer.CachedInfo().AckFloor.Stream; at < least {
		return fmt.Errorf("at %d, want %d", at, least)
	}
	return nil
}

func TestAcknowledgingOverHTTP(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	first, second := n.to(t, "alice", "1"), n.to(t, "alice", "2")
	ws, ready := n.enter(t, wire.Auth{Token: "alice"})
	l, _ := n.hear(t, "alice")
	if got := hears[wire.Ready](l); got.Unread != 2 {
		t.Errorf("%+v", got)
	}
	l.seqs()
	as := func(user string) []string { return []string{"Authorization", "Bearer " + user} }
	body := func(epoch string, seq uint64) string { return fmt.Sprintf(`{"epoch":%q,"seq":%d}`, epoch, seq) }
	n.call(t, http.MethodPost, "/v1/ack", body(ready.Epoch, first), as("alice")...).is(http.StatusNoContent)
	n.committed(t, streams.CursorID{User: "alice"}, first, 1)
	if got := await[wire.Acked](ws); got.Seq != first || got.Unread != 1 {
		t.Errorf("%+v", got)
	}
	if got := hears[wire.Acked](l); got.Seq != first {
		t.Errorf("%+v", got)
	}
	_, _ = n.enter(t, wire.Auth{Token: "alice", Device: "phone"})
	n.call(t, http.MethodPost, "/v1/ack", `{"device":"phone",`+body(ready.Epoch, second)[1:], as("alice")...).is(http.StatusNoContent)
	n.committed(t, streams.CursorID{User: "alice", Device: "phone"}, second, 0)
	n.committed(t, streams.CursorID{User: "alice"}, first, 1)

	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{body("other", first), http.StatusConflict, "replaced"},
		{body(ready.Epoch, second+1), http.StatusConflict, "past the stream's end"},
		{`{"seq":1}`, http.StatusBadRequest, "epoch"},
		{`{"epoch":"x"}`, http.StatusBadRequest, "seq"},
		{`{"epoch":"x","seq":-1}`, http.StatusBadRequest, "a number"},
		{`{"epoch":"x","seq":null}`, http.StatusBadRequest, "a number"},
		{`{"epoch":"x","seq":1,"user":"bob"}`, http.StatusBadRequest, "unknown field"},
		{`{"epoch":"x","seq":1,"device":"` + strings.Repeat("x", 201) + `"}`, http.StatusBadRequest, "the limit is 200"},
		{`{"epoch":"x","seq":1,"device":"\ud800"}`, http.StatusBadRequest, "U+FFFD"},
		{`{"epoch":"x","seq":1,"seq":1}`, http.StatusBadRequest, "twice"},
		{body(ready.Epoch, 1)[:20] + strings.Repeat(" ", 5000), http.StatusRequestEntityTooLarge, "bytes"},
		{`[]`, http.StatusBadRequest, "object"},
	} {
		if got := n.call(t, http.MethodPost, "/v1/ack", c.body, as("alice")...).is(c.status); !strings.Contains(got.body, c.says) {
			t.Errorf("%s: %s, want %q", c.body, got.body, c.says)
		}
	}
	n.call(t, http.MethodPost, "/v1/ack", body(ready.Epoch, 1), as("stranger")...).is(http.StatusNotFound)
	n.call(t, http.MethodPost, "/v1/ack", `{"device":"tablet",`+body(ready.Epoch, second)[1:], as("alice")...).is(http.StatusNotFound)
	n.call(t, http.MethodPost, "/v1/ack", body(ready.Epoch, 1), "Authorization", "").is(http.StatusUnauthorized)
	n.call(t, http.MethodPost, "/v1/ack", body(ready.Epoch, 1), "Content-Type", "text/plain").is(http.StatusUnsupportedMediaType)
}

func TestEventsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		if r.Token == "busy" {
			return auth.Identity{}, &auth.Refusal{Code: "busy", Message: "one moment", RetryAfter: 3 * time.Second}
		}
		if r.Token != "good" {
			return auth.Identity{}, &auth.Refusal{Code: r.Token, Message: "no"}
		}
		return auth.Identity{User: "alice"}, nil
	}))
	for name, c := range map[string]struct {
		token  string
		header []string
		status int
		says   string
	}{
		"no token":         {"", nil, http.StatusUnauthorized, "Bearer"},
		"token in a query": {"", []string{"query", "token=good&access_token=good"}, http.StatusUnauthorized, "Bearer"},
		"cookie":           {"", []string{"Cookie", "token=good"}, http.StatusUnauthorized, "Bearer"},
		"bad token":        {"bad", nil, http.StatusUnauthorized, "no"},
		"forbidden":        {"forbidden", nil, http.StatusForbidden, "no"},
		"busy":             {"busy", nil, http.StatusServiceUnavailable, "one moment"},
		"another origin":   {"good", []string{"Origin", "https://evil.example"}, http.StatusForbidden, "--origin"},
		"not an id":        {"good", []string{"Last-Event-ID", "42"}, http.StatusBadRequest, "Last-Event-ID"},
		"not a seq":        {"good", []string{"Last-Event-ID", "e.x.alice"}, http.StatusBadRequest, "Last-Event-ID"},
		"not a user":       {"good", []string{"Last-Event-ID", "e.1.%zz"}, http.StatusBadRequest, "Last-Event-ID"},
		"long device":      {"good", []string{"query", "device=" + strings.Repeat("x", 201)}, http.StatusBadRequest, "the limit is 200"},
	} {
		t.Run(name, func(t *testing.T) {
			_, response := n.hear(t, c.token, c.header...)
			var p struct{ Detail string }
			if err := json.NewDecoder(response.Body).Decode(&p); err != nil || response.StatusCode != c.status ||
				response.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(p.Detail, c.says) {
				t.Errorf("%d %v %+v, want %d and %q", response.StatusCode, err, p, c.status, c.says)
			}
			if retry := response.Header.Get("Retry-After"); (retry != "") != (c.status == http.StatusServiceUnavailable) {
				t.Errorf("Retry-After %q", retry)
			}
		})
	}
	n.connected(t, "alice", 0)
}

// ends reads to the goaway of the code, behind which there must be nothing, and returns what came before it.
func (l *listener) ends(code wire.CloseCode) (before []wire.Frame, last *event) {
	l.t.Helper()
	for {
		e := l.next()
		if e == nil {
			l.t.Fatalf("the events ended without %d", code)
		}
		f, ok := e.frame.(wire.Goaway)
		if !ok {
			before = append(before, e.frame)
			continue
		}
		if f.Code != code {
			l.t.Errorf("%+v, want %d", f, code)
		}
		if rest := l.next(); rest != nil {
			l.t.Errorf("%+v after the goaway", rest)
		}
		return before, e
	}
}

// What ends a session ends the events, with a word.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		identity := auth.Identity{User: r.Token}
		if r.Token == "leased" {
			identity.ExpiresIn = 2 * time.Second
		}
		return identity, nil
	}))
	banned, _ := n.hear(t, "banned")
	hears[wire.Ready](banned)
	if _, _, err := delivery.Disconnect(t.Context(), n.nc, "banned", nil, "banned"); err != nil {
		t.Fatal(err)
	}
	banned.ends(4410)

	leased, _ := n.hear(t, "leased")
	before, _ := leased.ends(4501)
	if !slices.ContainsFunc(before, func(f wire.Frame) bool { _, ok := f.(wire.Expiring); return ok }) {
		t.Errorf("nobody said that the lease would end: %+v", before)
	}

	last, _ := n.hear(t, "last")
	hears[wire.Ready](last)
	n.stop()
	if _, e := last.ends(4512); e.retry == "" {
		t.Error("it does not say when to come again")
	}
	n.connected(t, "last", 0)

	// While it drains: as HTTP says it, but an EventSource would never come again after that.
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, delivery.EventsPath, nil)
	r.Header.Set("Authorization", "Bearer late")
	n.gateway.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	r.Header.Set("Accept", "text/event-stream")
	w = httptest.NewRecorder()
	n.gateway.Handler().ServeHTTP(w, r)
	if got := w.Body.String(); w.Code != http.StatusOK || !strings.HasPrefix(got, "retry: ") || !strings.Contains(got, `"code":4512`) {
		t.Errorf("%d %q", w.Code, got)
	}
}

// A client that says it will send a body, and does not, holds nothing up.
func TestEventsWithABodyThatNeverComes(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	conn, err := net.Dial("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Length: 5\r\n\r\n", delivery.EventsPath); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("%v, %v", answer, err)
	}
}

// With --token-cookie a browser's cookie is as good as a token, from pages that may connect.
func TestTokenInACookie(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example"
	n := newTown(t, func(c *nodeConfig) { c.delivery.TokenCookie, c.delivery.Origins = "tidings", []string{origin} })
	for name, c := range map[string]struct {
		headers []string
		status  int
	}{
		"an allowed page":       {[]string{"Origin", origin, "Sec-Fetch-Site", "cross-site"}, http.StatusOK},
		"a page of this host":   {[]string{"Sec-Fetch-Site", "same-origin"}, http.StatusOK},
		"no browser":            {nil, http.StatusOK},
		"another page":          {[]string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"who does not say":      {[]string{"Sec-Fetch-Site", "cross-site"}, http.StatusUnauthorized},
		"a page of a neighbour": {[]string{"Sec-Fetch-Site", "same-site"}, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			l, response := n.hear(t, "", append([]string{"Cookie", "other=1; tidings=" + secret("alice")}, c.headers...)...)
			if response.StatusCode != c.status {
				t.Fatalf("%d, want %d", response.StatusCode, c.status)
			}
			if c.status == http.StatusOK {
				if got := hears[wire.Ready](l); got.User != "alice" {
					t.Errorf("%+v", got)
				}
			}
			if len(c.headers) > 0 && c.headers[1] == origin {
				h := response.Header
				if h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Credentials") != "true" {
					t.Errorf("%v", h)
				}
			}
		})
	}
	p := n.dial(t, "Cookie", "tidings="+secret("bob"), "Origin", origin)
	expect[wire.Hello](p)
	p.send(wire.Auth{})
	if got := expect[wire.Ready](p); got.User != "bob" {
		t.Errorf("%+v", got)
	}
	other := n.dial(t, "Cookie", "tidings="+secret("bob"), "Origin", origin)
	expect[wire.Hello](other)
	other.send(wire.Auth{Token: "carol"}) // who says who it is
	if got := expect[wire.Ready](other); got.User != "carol" {
		t.Errorf("%+v", got)
	}
}
