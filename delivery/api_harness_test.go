package delivery_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams/streamstest"
)

const apiKey = streamstest.Canary + "a-key-for-the-tests"

// withKeys switches the HTTP API on.
func withKeys(keys ...string) func(*nodeConfig) {
	return func(c *nodeConfig) {
		for _, key := range keys {
			if key != apiKey {
				key = secret(key)
			}
			if err := c.delivery.APIKeys.Add(key); err != nil {
				panic(err)
			}
		}
	}
}

var document = sync.OnceValues(func() (validator.Validator, error) {
	w := httptest.NewRecorder()
	delivery.New(delivery.Config{}).Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/openapi.json", nil))
	doc, err := libopenapi.NewDocument(w.Body.Bytes())
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return v, nil
})

// answer is what the HTTP API says.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

// call makes a request with the key, unless another Authorization is among the headers, and holds it and its answer against the
// OpenAPI document: the answer in any case, the request where it is taken.
func (n *node) call(t *testing.T, method, target, body string, headers ...string) answer {
	t.Helper()
	request := func() *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.address+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+apiKey)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
			if token, ok := strings.CutPrefix(headers[i+1], "Bearer "); ok && !strings.Contains(token, streamstest.Canary) {
				r.Header.Set(headers[i], "Bearer "+secret(token))
			}
		}
		return r
	}
	response, err := http.DefaultClient.Do(request())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	secrets.Search(method+" "+target, text)
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(strings.NewReader(string(text)))
	route := n.gateway.Handler().(chi.Routes).Find(chi.NewRouteContext(), method, response.Request.URL.EscapedPath())
	if route != "" && route != "/v1/*" && method != http.MethodOptions {
		if ok, errs := doc.ValidateHttpResponse(request(), response); !ok {
			t.Errorf("%s %s: %d %s is not as documented: %v", method, target, response.StatusCode, text, errs)
		}
		if ok, errs := doc.ValidateHttpRequest(request()); !ok && response.StatusCode < 400 {
			t.Errorf("%s %s %s was taken, but is not documented: %v", method, target, body, errs)
		}
	}
	return answer{t: t, status: response.StatusCode, header: response.Header, body: string(text)}
}

// is checks the status.
func (a answer) is(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%d %s, want %d", a.status, a.body, status)
	}
	return a
}

// as reads the body.
func as[T any](a answer) (v T) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s: %v", a.body, err)
	}
	return v
}
