package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// front is the HTTP server that clients meet. Until it is opened it answers 503: while a gateway waits for NATS, clients and
// load balancers are to try another one, and not to hang here.
type front struct {
	*httpServer
	scheme  string
	handler atomic.Pointer[http.Handler]
}

// newFront serves on the listener until close, by TLS if there is a certificate to show.
func newFront(l net.Listener, shown *certificate, log zerolog.Logger) *front {
	f := &front{scheme: "http"}
	if shown != nil {
		f.scheme, l = "https", tls.NewListener(l, shown.config())
	}
	f.httpServer = serve(&http.Server{
		Handler: f, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		// For answers. Who listens for long, by WebSocket or events, has deadlines of its own.
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
	}, l, log)
	return f
}

// url is where clients are, who listen on any address of this machine.
func (f *front) url() string { return f.scheme + "://" + f.address.String() }

// open lets requests through.
func (f *front) open(h http.Handler) { f.handler.Store(&h) }

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := f.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Retry-After", fmt.Sprint(1+rand.IntN(5)))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `{"title":"Service Unavailable","status":503,"detail":"starting: try again in a moment"}`+"\n")
}
