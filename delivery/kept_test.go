package delivery_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
)

// The server keeps a request until its handler returns. Of a connection that is for long, and headers may have 32 KiB.
func TestHeadersAreNotKeptWithAConnection(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	left, handler := make(chan int, 2), n.gateway.Handler()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		left <- len(r.Header)
	}))
	t.Cleanup(front.Close)
	n.address = front.Listener.Addr().String()
	p := n.dial(t)
	expect[wire.Hello](p)
	_ = p.ws.Close()
	if headers := <-left; headers != 0 {
		t.Errorf("%d headers are left of a WebSocket", headers)
	}
	l, response := n.hear(t, "alice")
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, delivery.EventsPath)
	}
	_ = l.body.Close()
	if headers := <-left; headers != 0 {
		t.Errorf("%d headers are left of %s", headers, delivery.EventsPath)
	}
}
