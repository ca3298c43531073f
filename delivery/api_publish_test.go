package delivery_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

type published struct {
	ID      string
	Results []struct {
		User, Topic string
		Seq         uint64
		Duplicate   bool
		Status      int
		Error       string
	}
}

type problem struct {
	published
	Title  string
	Status int
	Detail string
}

// publishes makes a request that must be answered so.
func (n *node) publishes(t *testing.T, status int, body string, headers ...string) published {
	t.Helper()
	return as[published](n.call(t, http.MethodPost, "/v1/notifications", body, headers...).is(status))
}

func TestPublishOverHTTP(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	alice, _ := n.live(t, "alice")
	bob, _ := n.live(t, "bob")

	got := n.publishes(t, 202, `{"to":"alice","id":"ord-991","kind":"order.shipped","data":{"order": 991,
		"at":[1.0, 1e2, "\u00e9\u2028"]},"ttl":"1d"}`)
	if got.ID != "ord-991" || len(got.Results) != 1 || got.Results[0].User != "alice" || got.Results[0].Seq != 1 || got.Results[0].Duplicate {
		t.Errorf("%+v", got)
	}
	m := expect[wire.Msg](alice)
	if m.Seq != 1 || m.ID != "ord-991" || m.Kind != "order.shipped" || string(m.Data) != `{"order":991,"at":[1.0,1e2,"\u00e9\u2028"]}` {
		t.Errorf("%+v %s", m, m.Data)
	}
	stored, err := n.js.Stream(t.Context(), streams.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := stored.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if ttl := raw.Header.Get("Nats-TTL"); ttl != "24h0m0s" {
		t.Errorf("ttl %q", ttl)
	}

	// To several, of whom one is named twice; with an id in the header.
	got = n.publishes(t, 202, `{"to":["bob","alice","bob"],"data":"hello"}`, "Idempotency-Key", "hello-1")
	if got.ID != "hello-1" || len(got.Results) != 2 || got.Results[0].User != "bob" || got.Results[1].User != "alice" {
		t.Errorf("%+v", got)
	}
	for _, p := range []*peer{alice, bob} {
		if m := expect[wire.Msg](p); m.ID != "hello-1" || string(m.Data) != `"hello"` {
			t.Errorf("%+v %s", m, m.Data)
		}
	}
	// Once more: stored once.
	again := n.publishes(t, 202, `{"to":["alice"],"data":"hello","id":"hello-1"}`, "Idempotency-Key", "hello-1")
	if again.Results[0].Seq != got.Results[1].Seq || !again.Results[0].Duplicate {
		t.Errorf("%+v after %+v", again, got)
	}
	// To a topic, without an id: one is made.
	got = n.publishes(t, 202, `{"topic":"all","data":null}`)
	if got.ID == "" || len(got.Results) != 1 || got.Results[0].Topic != "all" || got.Results[0].User != "" {
		t.Errorf("%+v", got)
	}
	for _, p := range []*peer{alice, bob} {
		if m := expect[wire.Msg](p); m.Topic != "all" || m.ID != got.ID || string(m.Data) != "null" {
			t.Errorf("%+v %s", m, m.Data)
		}
	}
	// Names of any kind, and no data.
	n.publishes(t, 202, `{"to":"a/b c.d@x.com é*>"}`)
	odd, _ := n.enter(t, wire.Auth{Token: "a/b c.d@x.com é*>"})
	if m := expect[wire.Msg](odd); string(m.Data) != `""` {
		t.Errorf("%s", m.Data)
	}
}

func TestPublishToAThousand(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	var users []string
	for i := range 1000 {
		users = append(users, fmt.Sprintf("user-%d-%s", i, strings.Repeat("é", 25)))
	}
	body, _ := json.Marshal(map[string]any{"to": users, "data": strings.Repeat("x", 250<<10)[:1000], "id": "all"})
	got := n.publishes(t, 202, string(body))
	seqs := map[uint64]bool{}
	for i, r := range got.Results {
		if r.User != users[i] || r.Duplicate {
			t.Fatalf("result %d: %+v", i, r)
		}
		seqs[r.Seq] = true
	}
	if len(seqs) != 1000 {
		t.Errorf("%d sequences", len(seqs))
	}
	body, _ = json.Marshal(map[string]any{"to": append(users, "one more")})
	if p := as[problem](n.call(t, http.MethodPost, "/v1/notifications", string(body)).is(400)); !strings.Contains(p.Detail, "1 to 1000") {
		t.Errorf("%+v", p)
	}
}

// A recipient whose name makes the message too large for the stream fails alone. The same request again stores what is missing and
// nothing twice.
func TestPartialFailureIsSafeToRetry(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	room := func(bytes int32) {
		t.Helper()
		stream, err := n.js.Stream(t.Context(), streams.DefaultName)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		cfg.MaxMsgSize = bytes
		if _, err := n.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	room(200)
	long := strings.Repeat("b", 150)
	body := fmt.Sprintf(`{"to":["alice",%q,"carol"],"data":"hello","id":"x"}`, long)
	got := n.publishes(t, 207, body)
	if r := got.Results[1]; r.User != long || r.Status != 413 || !strings.Contains(r.Error, "too large") || r.Seq != 0 {
		t.Errorf("%+v", r)
	}
	for _, i := range []int{0, 2} {
		if r := got.Results[i]; r.Seq == 0 || r.Duplicate || r.Status != 0 || r.Error != "" {
			t.Errorf("%+v", r)
		}
	}
	// Where all fail it is a problem as a whole, with an id to try again.
	p := as[problem](n.call(t, http.MethodPost, "/v1/notifications", fmt.Sprintf(`{"to":%q}`, long)).is(413))
	if p.ID == "" || len(p.Results) != 1 || p.Results[0].User != long || p.Status != 413 {
		t.Errorf("%+v", p)
	}
	room(-1)
	again := n.publishes(t, 202, body)
	for i, want := range []bool{true, false, true} {
		if r := again.Results[i]; r.Duplicate != want || want && r.Seq != got.Results[i].Seq {
			t.Errorf("%+v after %+v", r, got.Results[i])
		}
	}
}

func TestBadPublications(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	before := n.to(t, "alice", "before")
	post := "/v1/notifications"
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		detail             string
	}{
		"nothing":             {body: " ", status: 400, detail: "ends within the JSON object"},
		"half of it":          {body: `{"to":"alice","data":[1,2`, status: 400, detail: "ends within the JSON object"},
		"broken JSON":         {body: `{"to":"alice",}`, status: 400, detail: "broken JSON"},
		"two objects":         {body: `{"to":"alice"}{"to":"bob"}`, status: 400, detail: "something follows"},
		"a list":              {body: `[{"to":"alice"}]`, status: 400, detail: "must be one JSON object"},
		"no UTF-8":            {body: "{\"to\":\"alice\",\"data\":\"\xff\"}", status: 400, detail: "UTF-8"},
		"an unknown field":    {body: `{"to":"alice","date":1}`, status: 400, detail: `"date"`},
		"another spelling":    {body: `{"To":"alice"}`, status: 400, detail: `"To"`},
		"a field twice":       {body: `{"to":"alice","to":"bob"}`, status: 400, detail: `"to" is there twice`},
		"nobody":              {body: `{"data":1}`, status: 400, detail: `either "to"`},
		"user and topic":      {body: `{"to":"alice","topic":"all"}`, status: 400, detail: `either "to"`},
		"an empty list":       {body: `{"to":[]}`, status: 400, detail: "0 users"},
		"an empty user":       {body: `{"to":["bob",""]}`, status: 400, detail: `user ""`},
		"a user of no string": {body: `{"to":["bob",7]}`, status: 400, detail: "must be a string"},
		"to null":             {body: `{"to":null}`, status: 400, detail: "must be a string"},
		"a long user":         {body: `{"to":["bob","` + strings.Repeat("é", 70) + `"]}`, status: 400, detail: "420 bytes when encoded"},
		"a broken user":       {body: `{"to":["bob","a\ud800"]}`, status: 400, detail: "U+FFFD"},
		"a broken topic":      {body: `{"topic":"a\ud800"}`, status: 400, detail: "U+FFFD"},
		"a broken id":         {body: `{"to":"bob","id":"a\udc00"}`, status: 400, detail: "U+FFFD"},
		"a broken kind":       {body: `{"to":"bob","kind":"\ud800\ud800"}`, status: 400, detail: "U+FFFD"},
		"a broken key":        {body: `{"to":"bob"}`, headers: []string{"Idempotency-Key", "a\uFFFD"}, status: 400, detail: "Idempotency-Key"},
		"gzip":                {body: "\x1f\x8b", headers: []string{"Content-Encoding", "gzip"}, status: 415, detail: "not compressed"},
		"deep data":           {body: `{"to":"bob","data":` + strings.Repeat("[", 61) + strings.Repeat("]", 61) + `}`, status: 400, detail: "61 levels deep, the limit is 60"},
		"very deep data":      {body: `{"to":"bob","data":` + strings.Repeat("[", 9_998) + strings.Repeat("]", 9_998) + `}`, status: 400, detail: "9998 levels"},
		"an empty topic":      {body: `{"topic":""}`, status: 400, detail: `topic ""`},
		"an empty id":         {body: `{"to":"bob","id":""}`, status: 400, detail: "id is empty"},
		"lines in an id":      {body: `{"to":["bob","carol"],"id":"x\r\nNats-Rollup: all"}`, status: 400, detail: "control character"},
		"lines in a kind":     {body: `{"to":"bob","kind":"x\nNats-TTL: 1s"}`, status: 400, detail: "control character"},
		"a long kind":         {body: `{"to":"bob","kind":"` + strings.Repeat("x", 1025) + `"}`, status: 400, detail: "1025 bytes"},
		"two ids":             {body: `{"to":"bob","id":"a"}`, headers: []string{"Idempotency-Key", "b"}, status: 400, detail: "Idempotency-Key"},
		"a ttl of a number":   {body: `{"to":"bob","ttl":60}`, status: 400, detail: "ttl must be a string"},
		"a ttl of nonsense":   {body: `{"to":"bob","ttl":"1 day"}`, status: 400, detail: `"24h"`},
		"a short ttl":         {body: `{"to":"bob","ttl":"10ms"}`, status: 400, detail: "at least 1s"},
		"data too large":      {body: `{"to":"bob","data":"` + strings.Repeat("x", 256<<10) + `"}`, status: 413, detail: "262146 bytes of data"},
		"a body too large":    {body: `{"to":"bob","data":"` + strings.Repeat("x", 2<<20) + `"}`, status: 413, detail: "the body may have"},
		"a form":              {body: `to=bob`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, detail: "application/json"},
		"no type":             {body: `{"to":"bob"}`, headers: []string{"Content-Type", ""}, status: 415, detail: "application/json"},
		"another charset":     {body: `{"to":"bob"}`, headers: []string{"Content-Type", "application/json; charset=latin1"}, status: 415, detail: "UTF-8"},
		"a GET":               {method: http.MethodGet, status: 405, detail: "POST"},
		"no key":              {body: `{"to":"bob"}`, headers: []string{"Authorization", ""}, status: 401, detail: "Bearer KEY"},
		"a wrong key":         {body: `{"to":"bob"}`, headers: []string{"Authorization", "Bearer alice"}, status: 401, detail: "not good"},
		"half a key":          {body: `{"to":"bob"}`, headers: []string{"Authorization", "Bearer " + apiKey[:10]}, status: 401, detail: "not good"},
		"a key by password":   {body: `{"to":"bob"}`, headers: []string{"Authorization", "Basic " + apiKey}, status: 401, detail: "Bearer KEY"},
		"no such path":        {path: "/v1/notification", body: `{}`, status: 404, detail: "/v1/openapi.json"},
		"a user's path":       {path: "/v1/users/alice", body: `{}`, status: 405, detail: "GET"},
	} {
		t.Run(name, func(t *testing.T) {
			method, path := c.method, c.path
			if method == "" {
				method = http.MethodPost
			}
			if path == "" {
				path = post
			}
			a := n.call(t, method, path, c.body, c.headers...).is(c.status)
			p := as[problem](a)
			if a.header.Get("Content-Type") != "application/problem+json" || p.Status != c.status || p.Title != http.StatusText(c.status) ||
				!strings.Contains(p.Detail, c.detail) {
				t.Errorf("%v %+v, want %q", a.header, p, c.detail)
			}
			if c.status == 401 && a.header.Get("WWW-Authenticate") != "Bearer" || c.status == 405 && a.header.Get("Allow") == "" {
				t.Errorf("%v", a.header)
			}
			if strings.Contains(a.body, apiKey[:10]) {
				t.Errorf("the key is told: %s", a.body)
			}
		})
	}
	if after := n.to(t, "alice", "after"); after != before+1 {
		t.Errorf("something was stored: seq %d after %d", after, before)
	}
}

// What the NATS server would not carry is the publisher's to change, and is not to be tried again.
func TestPublishMoreThanNATSCarries(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t, streamstest.WithConfig("max_payload: 64KB")).URL(), withKeys(apiKey))
	body := fmt.Sprintf(`{"to":["alice","bob"],"data":%q}`, strings.Repeat("x", 100<<10))
	p := as[problem](n.call(t, http.MethodPost, "/v1/notifications", body).is(413))
	if !strings.Contains(p.Detail, "raise its max_payload") || len(p.Results) != 2 || p.Results[1].Status != 413 {
		t.Errorf("%+v", p)
	}
}

// A key that is used again for something else is the publisher's mistake, and is not answered as if that were stored.
func TestAnIdempotencyKeyUsedAgain(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	n.publishes(t, 202, `{"to":["alice","bob"],"data":{"order": 991}}`, "Idempotency-Key", "k")
	if again := n.publishes(t, 202, `{"to":["alice"],"data":{"order":991},"ttl":"1h"}`, "Idempotency-Key", "k"); !again.Results[0].Duplicate {
		t.Errorf("%+v", again)
	}
	other := `{"to":["alice","bob"],"id":"k","data":{"order":992}}`
	p := as[problem](n.call(t, http.MethodPost, "/v1/notifications", other).is(409))
	if !strings.Contains(p.Detail, `"k", at seq `) || len(p.Results) != 2 || p.Results[1].Status != 409 || p.ID != "k" {
		t.Errorf("%+v", p)
	}
	got := n.publishes(t, 207, strings.Replace(other, `"bob"`, `"carol"`, 1))
	if got.Results[0].Status != 409 || got.Results[0].Seq != 0 || got.Results[1].Seq != 3 || got.Results[1].Duplicate {
		t.Errorf("%+v", got)
	}
	n.publishes(t, 202, `{"topic":"all","data":1}`, "Idempotency-Key", "k")
	as[problem](n.call(t, http.MethodPost, "/v1/notifications", `{"topic":"all","data":2}`, "Idempotency-Key", "k").is(409))
}
