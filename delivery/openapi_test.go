package delivery_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/tidings-io/tidings/delivery"
)

// The document is OpenAPI 3.1, and has the routes that there are, no more and no fewer. That requests and answers are as it says is
// looked at wherever a test makes one.
func TestOpenAPIHasAllRoutes(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if ok, errs := doc.ValidateDocument(); !ok {
		t.Errorf("%v", errs)
	}
	handler := delivery.New(delivery.Config{}).Handler()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/openapi.json", nil))
	var said struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(said.OpenAPI, "3.1.") || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("openapi %q, %v", said.OpenAPI, w.Header())
	}
	var documented, routed []string
	for path, methods := range said.Paths {
		for method := range methods {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	err = chi.Walk(handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if strings.HasPrefix(route, "/v1/") && route != "/v1/*" && method != http.MethodOptions {
			routed = append(routed, method+" "+route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(documented)
	slices.Sort(routed)
	if !slices.Equal(documented, routed) {
		t.Errorf("documented %q, routed %q", documented, routed)
	}
}
