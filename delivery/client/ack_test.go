package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
)

func TestAcksAreCombined(t *testing.T) {
	s := newServer(t)
	r := start(s, func(cfg *client.Config) { cfg.AckEvery = time.Hour })
	p := s.accept()
	p.admit(ready(0))
	for seq := uint64(1); seq <= 20; seq++ {
		p.send(msg(seq))
	}
	first := next[wire.Ack](p).Seq // 16 messages, or more if they arrived before the ack was sent
	if first < 16 {
		t.Errorf("ack %d, want at least 16 in one frame", first)
	}
	r.until("msg 20")
	p.send(wire.Acked{Seq: 1})
	r.until("acked 1 0") // so message 20 was handled
	_ = r.stop()
	if first < 20 {
		if last := next[wire.Ack](p).Seq; last != 20 {
			t.Errorf("ack %d at the close, want 20", last)
		}
	}
	if code := p.waitEnd(); code != websocket.CloseNormalClosure {
		t.Errorf("close code %d", code)
	}
}

func TestAcksArePrompt(t *testing.T) {
	s := newServer(t)
	start(s, nil)
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), msg(2), msg(3))
	for last := uint64(0); last < 3; {
		ack := next[wire.Ack](p).Seq
		if ack <= last || ack > 3 {
			t.Fatalf("ack %d after %d", ack, last)
		}
		last = ack
	}
	p.send(wire.Live{Seq: 9}, wire.Ping{Seq: 11}, msg(12)) // only messages that were handled are acknowledged
	if ack := next[wire.Ack](p).Seq; ack != 12 {
		t.Errorf("ack %d, want 12", ack)
	}
}

func TestAcksWhileHandlerIsBusy(t *testing.T) {
	s := newServer(t)
	hold := make(gate)
	start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, m client.Message) error {
			if m.Seq == 2 {
				return hold.wait(ctx)
			}
			return nil
		}
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), msg(2))
	if ack := next[wire.Ack](p).Seq; ack != 1 {
		t.Errorf("ack %d, want 1", ack)
	}
	close(hold)
	if ack := next[wire.Ack](p).Seq; ack != 2 {
		t.Errorf("ack %d, want 2", ack)
	}
}

// The last acknowledgement may have been lost with the connection. It is sent again on the next
// connection, unless that one starts before it.
func TestAckIsRepeatedAfterReconnect(t *testing.T) {
	s := newServer(t)
	r := start(s, nil)
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), msg(2), msg(3), msg(4), msg(5))
	for next[wire.Ack](p).Seq != 5 {
	}
	p.cut()
	p = s.accept()
	wantResume(t, p.admit(ready(5)), "e1", 5)
	if ack := next[wire.Ack](p).Seq; ack != 5 {
		t.Errorf("ack %d, want 5 again", ack)
	}
	p.cut()
	p = s.accept()
	wantResume(t, p.admit(ready(3)), "e1", 5) // an older copy of the stream was restored: earlier acknowledgements do not apply to it
	p.send(msg(4))
	if ack := next[wire.Ack](p).Seq; ack != 4 {
		t.Errorf("ack %d, want only messages of this connection", ack)
	}
	r.until("msg 5", "msg 4")
}

func TestManualAck(t *testing.T) {
	s := newServer(t)
	r := start(s, func(cfg *client.Config) { cfg.ManualAck = true })
	r.Ack(7) // before anything was received
	p := s.accept()
	p.admit(ready(2))
	position := func(want uint64) {
		t.Helper()
		eventually(t, "position", func() bool { return r.Position().Seq == want })
	}
	position(2)
	p.send(msg(3), msg(4), msg(5), wire.Live{Seq: 8})
	r.until("live at 8")
	position(2)    // messages are handled, but not acknowledged
	r.Ack(6)       // was not passed to OnMessage
	r.Ack(1 << 60) // nor was this
	r.Ack(4)
	r.Ack(3) // lower than the acknowledgement before
	if ack := next[wire.Ack](p).Seq; ack != 4 {
		t.Errorf("ack %d, want 4", ack)
	}
	position(4)
	p.cut()

	p = s.accept()
	wantResume(t, p.admit(ready(8)), "e1", 8) // 5 was passed to OnMessage, and is not delivered again
	if ack := next[wire.Ack](p).Seq; ack != 4 {
		t.Errorf("ack %d, want 4 again", ack)
	}
	r.Ack(5)
	if ack := next[wire.Ack](p).Seq; ack != 5 {
		t.Errorf("ack %d, want 5", ack)
	}
	position(8) // everything up to 8 is acknowledged
	p.send(wire.Live{Seq: 8}, wire.Ping{Seq: 12})
	position(12)
}

func TestManualAckInHandler(t *testing.T) {
	s := newServer(t)
	var r *run
	running := make(chan struct{})
	r = start(s, func(cfg *client.Config) {
		cfg.ManualAck = true
		cfg.OnMessage = func(_ context.Context, m client.Message) error {
			<-running
			r.Ack(m.Seq)
			return nil
		}
	})
	close(running)
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1))
	if ack := next[wire.Ack](p).Seq; ack != 1 {
		t.Errorf("ack %d, want 1", ack)
	}
}

func TestAckIsIgnoredWithoutManualAck(t *testing.T) {
	s := newServer(t)
	hold, entered := make(gate), make(chan struct{})
	r := start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, m client.Message) error {
			close(entered)
			return hold.wait(ctx)
		}
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1))
	receive(t, entered)
	r.Ack(1)
	if got := r.Position().Seq; got != 0 {
		t.Errorf("Position is %d before the message was handled", got)
	}
	_ = r.stop()
	if code := p.waitEnd(); code != websocket.CloseNormalClosure || len(p.frames) != 0 {
		t.Errorf("close code %d after %d more frames", code, len(p.frames))
	}
}
