package delivery_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tidings-io/tidings/delivery"
)

// The client is for everybody, the demo page is not; and only the client may be had from other origins.
func TestRoutes(t *testing.T) {
	for _, demo := range []bool{false, true} {
		handler := delivery.New(delivery.Config{Demo: demo}).Handler()
		page := http.StatusNotFound
		if demo {
			page = http.StatusOK
		}
		for _, want := range []struct {
			method, path, cors string
			status             int
		}{
			{http.MethodGet, "/tidings.js", "*", http.StatusOK},
			{http.MethodHead, "/tidings.js", "*", http.StatusOK},
			{http.MethodGet, "/tidings-tabs.js", "*", http.StatusOK},
			{http.MethodHead, "/tidings-tabs.js", "*", http.StatusOK},
			{http.MethodGet, "/", "", page},
			{http.MethodGet, "/v1/ws", "", http.StatusBadRequest},
		} {
			r := httptest.NewRequest(want.method, want.path, nil)
			r.Header.Set("Origin", "https://elsewhere.example")
			if want.path == "/v1/ws" {
				r.Header.Del("Origin")
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if cors := w.Header().Get("Access-Control-Allow-Origin"); w.Code != want.status || cors != want.cors {
				t.Errorf("demo %t: %s %s: %d, Access-Control-Allow-Origin %q, want %d, %q",
					demo, want.method, want.path, w.Code, cors, want.status, want.cors)
			}
		}
	}
}
