package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is how long a test waits for a condition.
const timeout = 10 * time.Second

// server is a gateway played by the test. Each connection is a peer, which the test accepts.
type server struct {
	*httptest.Server
	t     *testing.T
	peers chan *peer

	mu      sync.Mutex
	refuse  http.HandlerFunc // answers the handshake instead of the upgrade
	choose  string           // the subprotocol that the server selects
	buffer  int
	noReads bool // the server does not read, and does not answer a close
}

func newServer(t *testing.T) *server {
	s := &server{t: t, peers: make(chan *peer, 64), choose: wire.Subprotocol}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(change func(s *server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		s.refuse(w, r)
		return
	}
	header := http.Header{}
	if s.choose != "" {
		header.Set("Sec-WebSocket-Protocol", s.choose)
	}
	upgrader := websocket.Upgrader{WriteBufferSize: s.buffer, CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := upgrader.Upgrade(w, r, header)
	if err != nil {
		s.t.Errorf("upgrade: %v", err)
		return
	}
	p := &peer{t: s.t, ws: ws, request: r, at: time.Now(), frames: make(chan wire.Frame, 4096), ended: make(chan struct{})}
	s.t.Cleanup(func() { _ = ws.Close() })
	if !s.noReads {
		go p.read()
	}
	s.peers <- p
}

// accept waits for the next connection.
func (s *server) accept() *peer {
	s.t.Helper()
	select {
	case p := <-s.peers:
		return p
	case <-time.After(timeout):
		s.t.Fatal("the client did not connect")
		return nil
	}
}

// peer is the server's end of one connection.
type peer struct {
	t       *testing.T
	ws      *websocket.Conn
	request *http.Request
	at      time.Time
	frames  chan wire.Frame

	// Written before ended is closed.
	ended chan struct{}
	err   error
}

func (p *peer) read() {
	defer close(p.ended)
	for {
		_, data, err := p.ws.ReadMessage()
		if err != nil {
			p.err = err
			return
		}
		frame, err := wire.Decode(data)
		if err != nil || frame == nil {
			p.t.Errorf("the client sent %q: %v", data, err)
			continue
		}
		p.frames <- frame
	}
}

func (p *peer) send(frames ...wire.Frame) {
	p.t.Helper()
	for _, f := range frames {
		p.sendRaw(websocket.TextMessage, string(wire.Append(nil, f)))
	}
}

func (p *peer) sendRaw(kind int, data string) {
	p.t.Helper()
	if err := p.ws.WriteMessage(kind, []byte(data)); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// try sends frames and ignores errors, because the client may already have disconnected.
func (p *peer) try(frames ...wire.Frame) {
	for _, f := range frames {
		_ = p.ws.WriteMessage(websocket.TextMessage, wire.Append(nil, f))
	}
}

// admit sends hello and ready, and returns the client's auth frame.
func (p *peer) admit(ready wire.Ready) wire.Auth {
	p.t.Helper()
	auth := next[wire.Auth](p)
	p.send(wire.Hello{Protocol: wire.Subprotocol, AuthWithin: 10_000}, ready)
	return auth
}

// next returns the client's next frame that is not a pong. It must be an F.
func next[F wire.Frame](p *peer) F {
	p.t.Helper()
	deadline := time.After(timeout)
	for {
		select {
		case frame := <-p.frames:
			if f, ok := frame.(F); ok {
				return f
			}
			if _, pong := frame.(wire.Pong); !pong {
				p.t.Fatalf("the client sent %#v, want %T", frame, *new(F))
			}
		case <-deadline:
			p.t.Fatalf("the client sent no %T", *new(F))
		}
	}
}

// close closes the connection with a close code.
func (p *peer) close(code wire.CloseCode, reason string) {
	p.t.Helper()
	message := websocket.FormatCloseMessage(int(code), reason)
	if err := p.ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(timeout)); err != nil {
		p.t.Fatalf("close: %v", err)
	}
}

// cut closes the connection without a close frame.
func (p *peer) cut() { _ = p.ws.Close() }

// waitEnd waits until the connection has ended, and returns the client's close code, or 1006 if it
// sent none.
func (p *peer) waitEnd() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(timeout):
		p.t.Fatal("the client did not end the connection")
	}
	var closed *websocket.CloseError
	if errors.As(p.err, &closed) {
		return closed.Code
	}
	return websocket.CloseAbnormalClosure
}

// ready returns a ready frame that starts after a seq of epoch e1. The ping interval is long.
func ready(after uint64) wire.Ready {
	return wire.Ready{User: "42", Conn: "c", Epoch: "e1", After: after, Ping: 60_000}
}

// msg returns a message whose data is its seq.
func msg(seq uint64) wire.Msg {
	return wire.Msg{Seq: seq, Time: time.Unix(0, 0).UTC(), Data: fmt.Append(nil, seq)}
}
