package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// secrets has seen all that is logged, and what clients were told.
var secrets streamstest.Secrets

func TestMain(m *testing.M) { streamstest.Main(m, streamstest.NoLeaks, secrets.Check) }

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// backend is the stream, what publishes to it, and who answers for tokens: by default a token is its user's name.
type backend struct {
	url     string
	nc      *nats.Conn
	js      jetstream.JetStream
	publish *streams.Publisher
}

func newBackend(t *testing.T, url string) *backend {
	t.Helper()
	b := &backend{url: url, nc: streamstest.Connect(t, url)}
	var err error
	if b.js, err = jetstream.New(b.nc); err != nil {
		t.Fatal(err)
	}
	if b.publish, err = streams.NewPublisher(b.nc, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// secret is a token as clients of the harness send it. Who answers does not see the canary.
func secret(token string) string { return streamstest.Canary + token }

// answer serves an Authenticator on the authentication subject until the test ends.
func (b *backend) answer(t *testing.T, a auth.Authenticator) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	bare := auth.AuthenticatorFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		r.Token = strings.TrimPrefix(r.Token, streamstest.Canary)
		return a.Authenticate(ctx, r)
	})
	responder := auth.NewResponder(b.nc, bare, auth.ResponderConfig{Timeout: 4 * patience, Logger: watchedLog(t)}) // tests that hold an answer end it themselves
	done := make(chan error, 1)
	go func() { done <- responder.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("responder:", err)
		}
	})
	select {
	case <-responder.Ready():
	case <-time.After(patience):
		t.Fatal("the responder does not get ready")
	}
}

// to publishes one notification to a user and returns its seq.
func (b *backend) to(t *testing.T, user string, data string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	receipt, err := b.publish.User(ctx, user, streams.Notification{Data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return receipt.Seq
}

func (b *backend) toTopic(t *testing.T, topic, data string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	receipt, err := b.publish.Topic(ctx, topic, streams.Notification{Data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return receipt.Seq
}

// node is a gateway with everything that `tidings gateway` wires, on a connection of its own.
type node struct {
	*backend
	gateway *delivery.Gateway
	tail    *streams.Tail
	address string
	stop    func() // ends it as a signal would
}

type nodeConfig struct {
	stream   streams.Config
	tail     streams.TailConfig
	cursors  streams.CursorsConfig
	delivery delivery.Config
	auth     auth.RequesterConfig
	log      io.Writer // of the gateway, instead of the test's
}

// reads waits until the gateway has read the stream up to a seq, which the stream may drop from then on.
func (n *node) reads(t *testing.T, seq uint64) {
	t.Helper()
	streamstest.Eventually(t, patience, func() error {
		if at := n.tail.Stats().Through; at < seq {
			return fmt.Errorf("the gateway has read the stream up to %d, not %d", at, seq)
		}
		return nil
	})
}

// watchedLog writes everything where it is searched for secrets, and what matters into the test's log.
func watchedLog(t *testing.T) zerolog.Logger {
	matters := &zerolog.FilteredLevelWriter{Writer: zerolog.LevelWriterAdapter{Writer: zerolog.NewTestWriter(t)}, Level: zerolog.WarnLevel}
	return zerolog.New(zerolog.MultiLevelWriter(secrets.Watched(io.Discard), matters))
}

func newNode(t *testing.T, url string, configure ...func(*nodeConfig)) *node {
	t.Helper()
	n := &node{backend: newBackend(t, url)}
	cfg := nodeConfig{}
	cfg.cursors.Interval = 200 * time.Millisecond
	cfg.delivery.Drain = 2 * time.Second
	for _, c := range configure {
		c(&cfg)
	}
	nc := streamstest.Connect(t, url)
	stream, err := streams.Open(t.Context(), nc, cfg.stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg.tail.Encode = delivery.Encoder(cfg.delivery.Tracer)
	log := watchedLog(t)
	cfg.tail.Logger, cfg.cursors.Logger, cfg.delivery.Logger = log, log, log
	if cfg.log != nil {
		cfg.delivery.Logger = zerolog.New(secrets.Watched(cfg.log))
	}
	tail := streams.NewTail(stream, cfg.tail)
	n.tail = tail
	cfg.cursors.Committed = delivery.Committed(nc)
	cursors := streams.NewCursors(tail, cfg.cursors)
	cfg.delivery.NATS, cfg.delivery.Stream, cfg.delivery.Tail, cfg.delivery.Cursors = nc, stream, tail, cursors
	cfg.delivery.Auth = auth.NewRequester(nc, cfg.auth)
	n.gateway = delivery.New(cfg.delivery)

	life, end := context.WithCancel(context.Background())
	parts, life := errgroup.WithContext(life)
	reading, endTail := context.WithCancel(context.Background()) // until positions are committed
	tailed := make(chan error, 1)
	go func() { tailed <- tail.Run(reading) }()
	parts.Go(func() error { return cursors.Run(life) })
	parts.Go(func() error { return n.gateway.Run(life) })
	for what, ready := range map[string]<-chan struct{}{"Tail": tail.Ready(), "gateway": n.gateway.Ready()} {
		select {
		case <-ready:
		case <-time.After(patience):
			t.Fatalf("the %s does not get ready", what)
		}
	}
	server := httptest.NewServer(n.gateway.Handler())
	n.address = strings.TrimPrefix(server.URL, "http://")
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.gateway.Drain(ctx, nil); err != nil {
			t.Error("drain:", err)
		}
		server.Close()
		end()
		if err := parts.Wait(); err != nil {
			t.Error("gateway:", err)
		}
		if nc.IsConnected() {
			if err := cursors.Flush(ctx); err != nil {
				t.Error("flush:", err)
			}
		}
		endTail()
		if err := <-tailed; err != nil {
			t.Error("Tail:", err)
		}
	}
	t.Cleanup(n.stop)
	return n
}

// newTown is one server, one gateway, and a responder that takes the token as the user and grants the topic "all".
func newTown(t *testing.T, configure ...func(*nodeConfig)) *node {
	t.Helper()
	n := newNode(t, streamstest.Run(t).URL(), configure...)
	n.answer(t, auth.TokenIsUser("all"))
	return n
}

// committed waits until the durable of a cursor says so.
func (b *backend) committed(t *testing.T, id streams.CursorID, floor, pending uint64) {
	t.Helper()
	name, err := streams.ConsumerName(id)
	if err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		consumer, err := b.js.Consumer(t.Context(), streams.DefaultName, name)
		if err != nil {
			return err
		}
		if info := consumer.CachedInfo(); info.AckFloor.Stream != floor || info.NumPending != pending {
			return fmt.Errorf("%s: floor %d, pending %d; want %d and %d", name, info.AckFloor.Stream, info.NumPending, floor, pending)
		}
		return nil
	})
}

// peer is a client in raw frames, of no library.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
}

func (n *node) dial(t *testing.T, header ...string) *peer {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	ws, response, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+n.address+wire.Path, h)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, response)
	}
	t.Cleanup(func() { _ = ws.Close() })
	return &peer{t: t, ws: ws}
}

// enter connects, authenticates and returns ready.
func (n *node) enter(t *testing.T, frame wire.Auth) (*peer, wire.Ready) {
	t.Helper()
	p := n.dial(t)
	expect[wire.Hello](p)
	p.send(frame)
	return p, expect[wire.Ready](p)
}

// live connects as a user for whom nothing is waiting.
func (n *node) live(t *testing.T, token string) (*peer, wire.Ready) {
	t.Helper()
	p, ready := n.enter(t, wire.Auth{Token: token})
	expect[wire.Live](p)
	return p, ready
}

// send sends a frame; a token in it has the canary.
func (p *peer) send(f wire.Frame) {
	p.t.Helper()
	switch token := f.(type) {
	case wire.Auth:
		if token.Token != "" {
			token.Token = secret(token.Token)
		}
		f = token
	case wire.Renew:
		token.Token = secret(token.Token)
		f = token
	}
	p.raw(string(wire.Append(nil, f)))
}

func (p *peer) raw(text string) {
	p.t.Helper()
	if err := p.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next frame, or the close error.
func (p *peer) next() (wire.Frame, error) {
	_ = p.ws.SetReadDeadline(time.Now().Add(patience))
	_, data, err := p.ws.ReadMessage()
	if err != nil {
		secrets.Search("close", []byte(err.Error()))
		return nil, err
	}
	secrets.Search("frame", data)
	return wire.Decode(data)
}

// expect reads one frame, which must be an F. A word of other connections of the user may come before it at any time.
func expect[F wire.Frame](p *peer) F {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatal(err)
		}
		want, ok := f.(F)
		if ok {
			return want
		}
		if _, noise := f.(wire.Acked); !noise {
			p.t.Fatalf("got %T %+v, want %T", f, f, want)
		}
	}
}

// await skips frames until an F comes.
func await[F wire.Frame](p *peer) F {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			var none F
			p.t.Fatalf("waiting for %T: %v", none, err)
		}
		if want, ok := f.(F); ok {
			return want
		}
	}
}

// closed reads until the connection is closed and checks the code. It returns the goaway before it, if there was one.
func (p *peer) closed(code wire.CloseCode) (goaway wire.Goaway) {
	p.t.Helper()
	for {
		f, err := p.next()
		if g, ok := f.(wire.Goaway); ok {
			goaway = g
		}
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != int(code) {
			p.t.Fatalf("got %v, want close %s", err, code)
		}
		return goaway
	}
}

// msgs reads messages until live and returns their seqs.
func (p *peer) replay() (seqs []uint64, live uint64) {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatal(err)
		}
		switch f := f.(type) {
		case wire.Msg:
			seqs = append(seqs, f.Seq)
		case wire.Live:
			return seqs, f.Seq
		}
	}
}

func ptr[T any](v T) *T { return &v }
