// Package embedded runs a NATS server with JetStream inside this process: one node, one directory, locked against a
// second process. It listens on the loopback interface, so that the NATS tools and other programs reach it as any other, or not at
// all.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// Errors of Start and Stop that a caller may want to tell apart.
var (
	ErrInUse     = errors.New("is in use")              // the data directory, by this or another process
	ErrPortTaken = errors.New("address already in use") // somebody else listens on the address
	ErrStopping  = errors.New("still stopping")         // Stop ran out of time; the server goes on stopping
)

// A Server is one running NATS server. Its owner watches Failed and calls Stop.
type Server struct {
	// Static after Start.
	cfg  Config
	log  zerolog.Logger
	lock *flock.Flock
	url  string

	srv     atomic.Pointer[server.Server] // another one after a restart
	started chan struct{}                 // closed when its own start has returned, well or not
	failed  chan error                    // holds the first fatal error
	full    atomic.Bool                   // publishing is refused

	watch     sync.WaitGroup
	stopWatch context.CancelFunc
	allowed   int64     // bytes on disk for all streams; of the watch, as is
	restartAt time.Time // when the server may be restarted next

	stopping sync.Once
	down     chan struct{} // closed when the server is down and the lock released
	downErr  error         // readable once down is closed
}

// Start runs a server on the store in cfg.Dir and returns when it has recovered its streams and accepts connections,
// which takes 30 ms when empty, and 0.2 s (after a crash 0.4 s) for each 1,000 durable consumers. When ctx ends first, it
// stops the server, for StopTimeout at most, and returns the error of ctx. Afterwards ctx does not matter any more.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	// The lock comes before anything looks at the store. It also comes before the port, so that who starts the same
	// gateway twice is told that.
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, lock: lock, failed: make(chan error, 1), stopWatch: func() {}, down: make(chan struct{}), allowed: noLimit,
	}
	began := time.Now()
	held, err := s.boot(ctx)
	if err != nil && s.server() == nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	if err == nil {
		err = s.checkDisk(ctx, false)
	}
	if err != nil {
		if stopErr := s.Stop(); stopErr != nil {
			s.log.Warn().Err(stopErr).Msg("the NATS server that failed to start")
		} else if taken := checkPort(cfg); taken != nil && ctx.Err() == nil {
			return nil, taken // somebody took the port while we recovered: say so in our words
		}
		return nil, err
	}
	if !cfg.InProcess {
		s.cfg.Port = s.server().Addr().(*net.TCPAddr).Port
		s.url = clientURL(cfg.Host, s.cfg.Port)
	}

	watchCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.stopWatch = cancel
	s.watch.Go(func() { s.watchHealth(watchCtx, time.Second) })

	s.log.Info().Str("url", s.url).Str("dir", cfg.Dir).Dur("took_ms", time.Since(began)).
		Int("durables", held.durables).Int64("bytes", held.bytes).Msg("JetStream is ready")
	return s, nil
}

// boot makes a server and waits until it has started. Where that fails, the server is still to be shut down if there is one.
func (s *Server) boot(ctx context.Context) (holding, error) {
	held := survey(s.cfg.Dir)
	if err := checkPort(s.cfg); err != nil {
		return held, err
	}
	maxStore := noLimit
	if _, _, err := diskSpace(s.cfg.Dir); err != nil && s.cfg.MaxStore == 0 {
		maxStore = 0
		s.log.Warn().Err(err).Str("dir", s.cfg.Dir).Msg("free disk space unknown, the NATS server chooses its limit")
	}
	srv, err := server.NewServer(s.cfg.options(maxStore))
	if err != nil {
		return held, fmt.Errorf("configure NATS server: %w", err)
	}
	trace := s.log.GetLevel() == zerolog.TraceLevel
	srv.SetLoggerV2(&logger{log: s.log, fail: s.fail}, trace, false, false)
	started := make(chan struct{})
	s.started = started
	s.srv.Store(srv)
	go func() {
		srv.Start()
		close(started)
	}()
	return held, s.awaitReady(ctx, held, 5*time.Second)
}

// server is the one that runs; nil before the first.
func (s *Server) server() *server.Server { return s.srv.Load() }

// ClientURL is where clients of this machine reach the server; empty: nowhere.
func (s *Server) ClientURL() string { return s.url }

// Connect returns a new connection that comes again for ever, with the server's own credentials. It goes over the loopback interface
// where there is a listener: in-process pipes save 12 µs on a single publish, but halve the rate of deliveries.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{nats.Name(s.cfg.Name), nats.MaxReconnects(-1)}, opts...)
	switch {
	case s.cfg.User != "":
		opts = append(opts, nats.UserInfo(s.cfg.User, s.cfg.Password))
	case s.cfg.Token != "":
		opts = append(opts, nats.Token(s.cfg.Token))
	}
	if s.cfg.InProcess {
		opts = append(opts, nats.InProcessServer(inProcess{s}))
	}
	nc, err := nats.Connect(s.url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// inProcess connects to the server that runs now.
type inProcess struct{ *Server }

// InProcessConn is for nats.InProcessServer.
func (p inProcess) InProcessConn() (net.Conn, error) { return p.server().InProcessConn() }

// Failed delivers the first error after which the server is of no use any more, such as a disk that refuses writes. One
// receiver gets it; the channel is never closed. Stop is still to be called.
func (s *Server) Failed() <-chan error { return s.failed }

func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first one is the cause
	}
}

func clientURL(host string, port int) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // an address to listen on, not to connect to
		if ip.To4() == nil {
			host = "::1"
		}
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(port))
}
