package main

import (
	"fmt"
	stdlog "log"
	"net"
	"net/http"

	"github.com/rs/zerolog"
)

// httpServer is an HTTP server that serves on a listener until it is closed.
type httpServer struct {
	*http.Server
	address net.Addr
	ended   chan struct{} // closed when it has stopped serving
	err     error         // why it stopped; valid once ended is closed
}

// listen listens on the address of a flag. Its errors say what to do.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, listenHint(flag, err))
	}
	return l, nil
}

// serve starts the server on the listener. The caller must close it.
func serve(s *http.Server, l net.Listener, log zerolog.Logger) *httpServer {
	if s.ErrorLog == nil { // logged at debug level: anybody can cause any number of these errors, such as failed TLS handshakes
		s.ErrorLog = stdlog.New(debugWriter{log}, "", 0)
	}
	v := &httpServer{Server: s, address: l.Addr(), ended: make(chan struct{})}
	go func() {
		defer close(v.ended)
		v.err = s.Serve(l)
	}()
	return v
}

func (s *httpServer) close() {
	_ = s.Close()
	<-s.ended
}

// debugWriter logs each write as one line at debug level.
type debugWriter struct{ log zerolog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug().Msgf("%.300s", p)
	return len(p), nil
}
