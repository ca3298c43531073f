package streamstest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Server is a nats-server within this process.
type Server struct {
	endpoint
	tb  testing.TB
	log *serverLog

	mu  sync.Mutex
	srv *server.Server // nil while stopped
}

// Run starts a nats-server with JetStream on a random port of the loopback interface.
func Run(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	s := &Server{endpoint: endpoint{newConfig(tb, opts)}, tb: tb, log: &serverLog{}}
	tb.Cleanup(func() {
		s.clear()
		s.Stop()
		if tb.Failed() {
			tb.Logf("log of the server at %s:\n%s", s.URL(), s.log)
		}
	})
	s.Restart()
	return s
}

// Stop shuts the server down and waits until it is down, which takes 10 ms per durable consumer. It does nothing if the
// server does not run.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
}

// stop is Stop with mu held.
func (s *Server) stop() {
	if s.srv != nil {
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
		s.srv = nil
	}
}

// Restart starts the server again with the same port and directory. It stops the server first if it runs.
func (s *Server) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	err := bind(func() (err error) {
		s.srv, err = launch(s.cfg, s.log)
		return err
	})
	if err != nil {
		s.tb.Fatalf("start nats-server: %v", err)
	}
}

// clear deletes the streams of a server with many durables before its last stop. The durables of a deleted stream stop
// immediately; otherwise a test with 5,000 users would take 50 s to end.
func (s *Server) clear() {
	s.mu.Lock()
	srv := s.srv
	s.mu.Unlock()
	if srv == nil || s.cfg.Text != "" {
		return // it may have other accounts and permissions
	}
	if state, err := srv.Jsz(nil); err != nil || state.Consumers < 50 {
		return
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for name := range js.StreamNames(ctx).Name() {
		_ = js.DeleteStream(ctx, name) // on an error, the stop takes longer
	}
}

// launch starts a server and returns when it has recovered its store and accepts connections.
func launch(cfg config, log *serverLog) (*server.Server, error) {
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	err = log.takeFatal()
	if err == nil && !srv.ReadyForConnections(10*time.Second) {
		err = errors.New("it does not accept connections")
	}
	if err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, err
	}
	return srv, nil
}
