package bench

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// A request to sendPath makes ServeSockets write messages that it generates itself. A WebSocket connection to relayPath
// makes it relay the messages sent to it.
const (
	sendPath  = "/send"
	relayPath = "/relay"
)

// sockets is a minimal WebSocket server. It does the handshake of a gateway, with the token as the client's name, and
// writes messages on request.
type sockets struct {
	upgrader websocket.Upgrader

	mu    sync.Mutex // held during writes
	conns []*websocket.Conn
	named map[string]*websocket.Conn // the newest connection of each name
	round int
	seq   uint64
}

// ServeSockets is the floor for delivering: it writes msg frames of the same size as a gateway's to one connection
// after the other, either generated ones or those that a publisher sends. It serves until ctx is done.
func ServeSockets(ctx context.Context, listener net.Listener) error {
	s := &sockets{
		upgrader: websocket.Upgrader{ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10, Subprotocols: []string{wire.Subprotocol}},
		named:    map[string]*websocket.Conn{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc(wire.Path, s.serve)
	mux.HandleFunc(sendPath, s.send)
	mux.HandleFunc(relayPath, s.relay)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *sockets) serve(w http.ResponseWriter, r *http.Request) {
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	write := func(f wire.Frame) bool {
		return ws.WriteMessage(websocket.TextMessage, wire.Append(nil, f)) == nil
	}
	if !write(wire.Hello{Protocol: wire.Subprotocol}) {
		return
	}
	_, data, err := ws.ReadMessage()
	if err != nil {
		return
	}
	frame, err := wire.Decode(data)
	first, ok := frame.(wire.Auth)
	if err != nil || !ok {
		return
	}
	s.mu.Lock()
	s.conns = append(s.conns, ws)
	s.named[first.Token] = ws
	admitted := write(wire.Ready{Epoch: "floor", After: s.seq}) && write(wire.Live{Seq: s.seq})
	s.mu.Unlock()
	for admitted {
		if _, _, err := ws.NextReader(); err != nil {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(one *websocket.Conn) bool { return one == ws })
	if s.named[first.Token] == ws {
		delete(s.named, first.Token)
	}
}

// send writes the requested number of rounds. In each round, every connection gets one message. With fanout, all
// connections get the same message, otherwise each gets a different one.
func (s *sockets) send(w http.ResponseWriter, r *http.Request) {
	rounds, err := strconv.Atoi(r.FormValue("rounds"))
	perSecond, err2 := strconv.ParseFloat(r.FormValue("per_second"), 64)
	if err := errors.Join(err, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fanout := r.FormValue("fanout") != ""
	message := newMessage(r.FormValue("run"))
	s.mu.Lock()
	defer s.mu.Unlock()
	var frame []byte
	began, sent := time.Now(), 0
	for range rounds {
		s.round++
		for i, ws := range s.conns {
			pace(began, sent, perSecond)
			if !fanout || i == 0 {
				s.seq++
				now := time.Now()
				stamp(message, s.round, now)
				frame = wire.AppendMsg(frame[:0], wire.Payload{Seq: s.seq, Time: now, Data: message})
			}
			_ = ws.WriteMessage(websocket.TextMessage, frame) // clients count lost messages, so ignore errors of closing connections
			sent++
		}
	}
}

// relay writes each message of a publisher to the client whose name is in the first line of the message.
func (s *sockets) relay(w http.ResponseWriter, r *http.Request) {
	publisher, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer publisher.Close()
	var frame []byte
	for {
		_, data, err := publisher.ReadMessage()
		if err != nil {
			return
		}
		name, message, _ := bytes.Cut(data, []byte("\n"))
		s.mu.Lock()
		if ws := s.named[string(name)]; ws != nil {
			s.seq++
			frame = wire.AppendMsg(frame[:0], wire.Payload{Seq: s.seq, Time: time.Now(), Data: message})
			_ = ws.WriteMessage(websocket.TextMessage, frame)
		}
		s.mu.Unlock()
	}
}
