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
	ended   chan struct{} // closed when it does not serve any more
	err     error         // why; readable then
}

// listen is net.Listen on what a flag says, and tells what to do where that is not possible.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, listenHint(flag, err))
	}
	return l, nil
}

// serve has a server serve.
func serve(s *http.Server, l net.Listener, log zerolog.Logger) *httpServer {
	if s.ErrorLog == nil { // such as handshakes that failed, of which anybody can make as many as he likes
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

// debugWriter makes a line of the log of what is written.
type debugWriter struct{ log zerolog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug().Msgf("%.300s", p)
	return len(p), nil
}
