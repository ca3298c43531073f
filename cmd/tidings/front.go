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

// front is the HTTP server for clients. It responds with 503 until open is called, so that clients and load balancers try another gateway
// while this one waits for NATS.
type front struct {
	*httpServer
	scheme  string
	handler atomic.Pointer[http.Handler]
}

// newFront serves on the listener until close, with TLS if cert is not nil.
func newFront(l net.Listener, cert *certificate, log zerolog.Logger) *front {
	f := &front{scheme: "http"}
	if cert != nil {
		f.scheme, l = "https", tls.NewListener(l, cert.config())
	}
	f.httpServer = serve(&http.Server{
		Handler: f, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		// WriteTimeout bounds plain responses. WebSocket and SSE connections set their own deadlines.
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
	}, l, log)
	return f
}

// url returns the base URL for clients.
func (f *front) url() string { return f.scheme + "://" + f.address.String() }

// open passes requests to the handler from now on.
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
