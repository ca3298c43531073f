package delivery_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// recovery is how long a test waits for what must come once a fault is over.
const recovery = time.Minute

// calmPing is for gateways that read the stream from further back than memory: such a read gives up when a ping is due, and a
// machine may be slow.
const calmPing = 5 * time.Second

// siege is gateways, clients that record every frame, and publishers that go on, whatever fails between them.
type siege struct {
	*backend // straight to the server
	log      *verify.Log
	nodes    []*node
	urls     []string // where clients dial
	guests   []*guest

	publishers sync.WaitGroup
	stop       context.CancelFunc // of the publishers
	life       context.Context
}

// guest is a client that runs until leave.
type guest struct {
	*verify.Client
	leave func()
}

// newSiege has the token be the user, who may read the topic "all". The URL is the server's own: nothing lies between.
func newSiege(t *testing.T, url string) *siege {
	t.Helper()
	s := &siege{backend: newBackend(t, url), log: &verify.Log{}}
	s.answer(t, tokenIsUser)
	s.life, s.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		s.stop()
		s.publishers.Wait()
	})
	return s
}

// gateway adds one, which reaches NATS at the URL.
func (s *siege) gateway(t *testing.T, nats string, configure ...func(*nodeConfig)) *node {
	t.Helper()
	n := newNode(t, nats, append([]func(*nodeConfig){func(c *nodeConfig) {
		c.delivery.Ping = 250 * time.Millisecond
		c.tail.Poll = 250 * time.Millisecond
		c.auth.Timeout = time.Second
	}}, configure...)...)
	s.nodes = append(s.nodes, n)
	s.urls = append(s.urls, "ws://"+n.address)
	return n
}

// client connects to one gateway after another, until the test ends. It may read the topic "all".
func (s *siege) client(t *testing.T, cfg verify.ClientConfig) *guest {
	t.Helper()
	if cfg.URLs == nil {
		first := len(s.guests) % len(s.urls) // so that not all are with the same
		cfg.URLs = append(append(cfg.URLs, s.urls[first:]...), s.urls[:first]...)
	}
	if cfg.Topics == nil {
		cfg.Topics = []string{"all"}
	}
	g := &guest{Client: verify.NewClient(s.log, cfg)}
	g.run(t)
	s.guests = append(s.guests, g)
	return g
}

// run lets it connect, at first and once more after leave.
func (g *guest) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.leave = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(g.leave)
}

// live waits until all clients are.
func (s *siege) live(t *testing.T) {
	t.Helper()
	streamstest.Eventually(t, recovery, func() error {
		var clients []*verify.Client
		for _, g := range s.guests {
			clients = append(clients, g.Client)
		}
		if err := verify.Live(clients...); err != nil {
			return fmt.Errorf("%w; %s", err, s.log.Stats())
		}
		return nil
	})
}

// publishing starts publishers, each to all of these in turn. They go on until calm.
func (s *siege) publishing(t *testing.T, publishers int, every time.Duration, users, topics []string) {
	t.Helper()
	for i := range publishers {
		p := s.publisher(t, fmt.Sprint("p", i))
		s.publishers.Go(func() { p.Run(s.life, every, users, topics) })
	}
}

func (s *siege) publisher(t *testing.T, name string) *verify.Publisher {
	t.Helper()
	p, err := verify.NewPublisher(s.log, s.nc, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// post publishes to each user in turn.
func post(t *testing.T, p *verify.Publisher, users ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), recovery)
	defer cancel()
	for _, user := range users {
		if err := p.User(ctx, user); err != nil {
			t.Fatal(err)
		}
	}
}

// goesOn waits until so many more messages have come to clients.
func (s *siege) goesOn(t *testing.T, messages int) {
	t.Helper()
	began := s.log.Stats().Messages
	streamstest.Eventually(t, recovery, func() error {
		if now := s.log.Stats(); now.Messages < began+messages {
			return fmt.Errorf("%d messages came, want %d more; %s", now.Messages-began, messages, now)
		}
		return nil
	})
}

// calm ends the publishers, waits until everybody has everything, and checks all that was seen.
func (s *siege) calm(t *testing.T) verify.Stats {
	t.Helper()
	s.stop()
	s.publishers.Wait()
	streamstest.Eventually(t, recovery, s.log.Missing)
	if err := s.log.Check(); err != nil {
		t.Fatal(err)
	}
	stats := s.log.Stats()
	t.Log(stats)
	return stats
}

// during polls for that long; what does not hold fails the test.
func during(t *testing.T, d time.Duration, holds func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := holds(); err != nil {
			t.Fatal(err)
		}
	}
}

// cursors returns where the stream's durable consumers of the present epoch stand, by user or user@device, and the stream as it was
// after that.
func (b *backend) cursors(ctx context.Context) (map[string]uint64, streams.State, error) {
	stream, err := streams.Find(ctx, b.nc, streams.Config{})
	if err != nil {
		return nil, streams.State{}, err
	}
	all, err := stream.Users().List(ctx)
	if err != nil {
		return nil, streams.State{}, err
	}
	st, err := stream.State(ctx)
	if err != nil {
		return nil, streams.State{}, err
	}
	floors := map[string]uint64{}
	for _, c := range all {
		if c.Epoch == st.Epoch {
			floors[c.CursorID.String()] = c.Seq
		}
	}
	return floors, st, nil
}

// acknowledged waits until the positions of all clients are committed: those of one cursor as far as the furthest of them.
func (s *siege) acknowledged(t *testing.T, by map[string]*guest) {
	t.Helper()
	streamstest.Eventually(t, recovery, func() error {
		floors, st, err := s.cursors(t.Context())
		if err != nil {
			return err
		}
		for cursor, g := range by {
			if acked, _ := g.Acknowledged(); floors[cursor] < acked || floors[cursor] > st.Last {
				return fmt.Errorf("%s is at %d, its client acknowledged %d, the stream ends at %d", cursor, floors[cursor], acked, st.Last)
			}
		}
		return nil
	})
}

// narrow is another front of the gateway. Its connections hold little of what is not read: some hundred KiB where others may hold
// ten MiB.
func (n *node) narrow(t *testing.T) (url string) {
	t.Helper()
	front := httptest.NewUnstartedServer(n.gateway.Handler())
	front.Listener = narrowListener{front.Listener}
	front.Start()
	t.Cleanup(front.Close)
	return "ws://" + front.Listener.Addr().String()
}

type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(32 << 10)
	}
	return conn, err
}

// narrowDial is the client's side of it.
func narrowDial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		err = conn.(*net.TCPConn).SetReadBuffer(128 << 10)
	}
	return conn, err
}

func names(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}
