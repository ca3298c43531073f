package client_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
)

func TestAnswersPings(t *testing.T) {
	s := newServer(t)
	hold := make(gate)
	start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, _ client.Message) error { return hold.pass(ctx) }
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), wire.Ping{}, wire.Ping{Seq: 7}) // the handler is busy
	next[wire.Pong](p)
	next[wire.Pong](p)
	close(hold)
}

func TestSilenceEndsTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		admit   func(p *peer)
		silence string
	}{
		"before ready": {func(*peer) {}, "150ms"},
		"after ready":  {func(p *peer) { p.admit(wire.Ready{User: "42", Epoch: "e1", Ping: 20}) }, "120ms"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r := start(s, func(cfg *client.Config) { cfg.Grace = 100 * time.Millisecond })
			c.admit(s.accept())
			r.until("waiting")
			if err := r.why(client.Waiting); !strings.Contains(err.Error(), "nothing arrived for "+c.silence) {
				t.Errorf("waits for %v", err)
			}
			s.accept()
		})
	}
}

// A large frame on a slow line takes longer than the server may be silent, but it is no silence.
func TestSlowFrameIsNoSilence(t *testing.T) {
	s := newServer(t)
	s.set(func(s *server) { s.buffer = 256 })
	r := start(s, func(cfg *client.Config) { cfg.Grace = 500 * time.Millisecond })
	p := s.accept()
	p.admit(wire.Ready{User: "42", Epoch: "e1", Ping: 20})
	w, err := p.ws.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	write := func(part string) {
		t.Helper()
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"type":"msg","seq":1,"time":"2026-11-22T17:55:19Z","data":"`)
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(20 * time.Millisecond) { // silence is 520 ms
		write(strings.Repeat("x", 300)) // past the buffer, which sends a part
	}
	write(`"}`)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.want("connecting", "replaying", "ready 42 e1 0", "msg 1")
}

// While the queue is full nothing is read, not even pings. The server must hear from the client, and the client must not
// take its own not reading for the server's silence.
func TestFullQueue(t *testing.T) {
	s := newServer(t)
	hold := make(gate)
	var got []uint64
	r := start(s, func(cfg *client.Config) {
		cfg.Grace = 100 * time.Millisecond
		cfg.OnMessage = func(ctx context.Context, m client.Message) error {
			got = append(got, m.Seq)
			return hold.pass(ctx)
		}
	})
	p := s.accept()
	p.admit(wire.Ready{User: "42", Epoch: "e1", Ping: 50})
	const many = 1000
	for seq := uint64(1); seq <= many; seq++ {
		p.send(msg(seq))
	}
	filled := time.Now()
	for signs := 0; signs < 5 || time.Since(filled) < 500*time.Millisecond; signs++ { // silence is 150 ms
		next[wire.Pong](p)
	}
	beats := make(chan struct{})
	go func() { // as a server does; it stops with the connection
		defer close(beats)
		for {
			select {
			case <-p.ended:
				return
			case <-time.After(20 * time.Millisecond):
				if p.ws.WriteMessage(websocket.TextMessage, wire.Append(nil, wire.Ping{})) != nil {
					return
				}
			}
		}
	}()
	close(hold)
	for next[wire.Ack](p).Seq != many {
	}
	_ = r.stop()
	<-beats
	for i, seq := range got {
		if seq != uint64(i+1) {
			t.Fatalf("message %d is %d", i+1, seq)
		}
	}
	if len(s.peers) != 0 {
		t.Error("the client connected again")
	}
}

// A stop while the queue is full must not wait for room in it.
func TestStopWithAFullQueue(t *testing.T) {
	s := newServer(t)
	r := start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, _ client.Message) error {
			<-ctx.Done()
			return ctx.Err()
		}
	})
	p := s.accept()
	p.admit(wire.Ready{User: "42", Epoch: "e1", Ping: 50})
	for seq := uint64(1); seq <= 1000; seq++ {
		p.send(msg(seq))
	}
	next[wire.Pong](p)
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if code := p.waitEnd(); code != websocket.CloseNormalClosure {
		t.Errorf("closes with %d", code)
	}
}
