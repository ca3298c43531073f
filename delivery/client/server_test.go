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

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// server is the other end, played by the test: each connection is a peer that the test accepts.
type server struct {
	*httptest.Server
	t     *testing.T
	peers chan *peer

	mu      sync.Mutex
	refuse  http.HandlerFunc // in place of the upgrade
	choose  string           // the subprotocol
	buffer  int
	unheard bool // nothing is read, and a close is not answered
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
	if !s.unheard {
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
	case <-time.After(patience):
		s.t.Fatal("the client did not connect")
		return nil
	}
}

// peer is one connection, seen from the server.
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
		p.t.Fatalf("write to the client: %v", err)
	}
}

// try sends what the client may not live to read.
func (p *peer) try(frames ...wire.Frame) {
	for _, f := range frames {
		_ = p.ws.WriteMessage(websocket.TextMessage, wire.Append(nil, f))
	}
}

// admit answers the client's auth frame, which it returns, with hello and ready.
func (p *peer) admit(ready wire.Ready) wire.Auth {
	p.t.Helper()
	auth := next[wire.Auth](p)
	p.send(wire.Hello{Protocol: wire.Subprotocol, AuthWithin: 10_000}, ready)
	return auth
}

// next is the client's next frame but for pongs, which must be an F.
func next[F wire.Frame](p *peer) F {
	p.t.Helper()
	deadline := time.After(patience)
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

// close closes the connection with a code.
func (p *peer) close(code wire.CloseCode, reason string) {
	p.t.Helper()
	message := websocket.FormatCloseMessage(int(code), reason)
	if err := p.ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(patience)); err != nil {
		p.t.Fatalf("close: %v", err)
	}
}

// cut ends the connection without a word.
func (p *peer) cut() { _ = p.ws.Close() }

// waitEnd waits for the end of the connection and returns the client's close code, or 1006.
func (p *peer) waitEnd() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("the client did not end the connection")
	}
	var closed *websocket.CloseError
	if errors.As(p.err, &closed) {
		return closed.Code
	}
	return websocket.CloseAbnormalClosure
}

// ready is the usual admission, behind seq after of epoch e1. The ping interval is long.
func ready(after uint64) wire.Ready {
	return wire.Ready{User: "42", Conn: "c", Epoch: "e1", After: after, Ping: 60_000}
}

// msg is a message whose data is its seq.
func msg(seq uint64) wire.Msg {
	return wire.Msg{Seq: seq, Time: time.Unix(0, 0).UTC(), Data: fmt.Append(nil, seq)}
}
