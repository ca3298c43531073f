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

// A Server is a nats-server in this process.
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

// Stop shuts the server down and waits for it: 10 ms for each durable consumer, one after another. To stop twice is no
// error.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
}

// stop is called with mu held.
func (s *Server) stop() {
	if s.srv != nil {
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
		s.srv = nil
	}
}

// Restart starts the server again, with the same port and directory; it stops it first if it runs.
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

// clear deletes the streams of a server that is not needed any more if it has many durables. Those of a deleted stream
// stop at once; a test with 5,000 users would otherwise take 50 s to end.
func (s *Server) clear() {
	s.mu.Lock()
	srv := s.srv
	s.mu.Unlock()
	if srv == nil || s.cfg.Text != "" {
		return // another account, and permissions that we do not know
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
		_ = js.DeleteStream(ctx, name) // what stays is stopped the slow way
	}
}

// launch returns when the server has recovered its store and accepts connections.
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
