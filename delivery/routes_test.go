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
			r.Host = "127.0.0.1:8080"
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

// A page whose name was made to lead to this machine is of the same origin as the demo, to the browser.
func TestDemoIsForThisMachine(t *testing.T) {
	demo := delivery.New(delivery.Config{Demo: true}).Handler()
	for host, want := range map[string]int{
		"127.0.0.1:8080": http.StatusOK, "127.0.0.2": http.StatusOK, "localhost:8080": http.StatusOK, "LOCALHOST": http.StatusOK,
		"[::1]:8080": http.StatusOK, "[::1]": http.StatusOK,
		"evil.example": http.StatusForbidden, "evil.example:8080": http.StatusForbidden, "localhost.evil.example": http.StatusForbidden,
		"127.0.0.1.evil.example:8080": http.StatusForbidden, "192.0.2.1:8080": http.StatusForbidden, "": http.StatusForbidden,
	} {
		for _, path := range []string{"/", "/v1/ws", "/v1/notifications"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			r.Header.Set("Origin", "http://"+host)
			w := httptest.NewRecorder()
			demo.ServeHTTP(w, r)
			if path == "/" && w.Code != want || path != "/" && (w.Code == http.StatusForbidden) != (want == http.StatusForbidden) {
				t.Errorf("host %q, %s: %d, want %d", host, path, w.Code, want)
			}
		}
	}
}
