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

func TestAnswersPingsWhileHandlerIsBusy(t *testing.T) {
	s := newServer(t)
	hold := make(gate)
	start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, _ client.Message) error { return hold.wait(ctx) }
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), wire.Ping{}, wire.Ping{Seq: 7})
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
			if err := r.reason(client.Waiting); !strings.Contains(err.Error(), "nothing arrived for "+c.silence) {
				t.Errorf("waits with error %v", err)
			}
			s.accept()
		})
	}
}

// Bytes of a large frame on a slow network count as a sign of life, even if the whole frame takes
// longer than the server may be silent.
func TestSlowFrameIsNotSilence(t *testing.T) {
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
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(20 * time.Millisecond) { // the limit is 520 ms
		write(strings.Repeat("x", 300)) // more than the buffer, so that a part is sent
	}
	write(`"}`)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.want("connecting", "replaying", "ready 42 e1 0", "msg 1")
}

// While the queue is full the client reads nothing, not even pings. It still sends pongs, and does
// not count that time as silence of the server.
func TestFullQueue(t *testing.T) {
	s := newServer(t)
	hold := make(gate)
	var got []uint64
	r := start(s, func(cfg *client.Config) {
		cfg.Grace = 100 * time.Millisecond
		cfg.OnMessage = func(ctx context.Context, m client.Message) error {
			got = append(got, m.Seq)
			return hold.wait(ctx)
		}
	})
	p := s.accept()
	p.admit(wire.Ready{User: "42", Epoch: "e1", Ping: 50})
	const many = 1000
	for seq := uint64(1); seq <= many; seq++ {
		p.send(msg(seq))
	}
	filled := time.Now()
	for pongs := 0; pongs < 5 || time.Since(filled) < 500*time.Millisecond; pongs++ { // the limit is 150 ms
		next[wire.Pong](p)
	}
	pings := make(chan struct{})
	go func() { // pings like a server, until the connection ends
		defer close(pings)
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
	<-pings
	for i, seq := range got {
		if seq != uint64(i+1) {
			t.Fatalf("message %d has seq %d", i+1, seq)
		}
	}
	if len(s.peers) != 0 {
		t.Error("the client reconnected")
	}
}

// A stop does not wait for room in a full queue.
func TestStopWithFullQueue(t *testing.T) {
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
		t.Errorf("close code %d", code)
	}
}
