package client_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
)

// wantResume checks the position with which the client resumes.
func wantResume(t *testing.T, auth wire.Auth, epoch string, seq uint64) {
	t.Helper()
	if auth.After == nil || *auth.After != seq || auth.Epoch != epoch || auth.User != "42" {
		t.Fatalf("auth = %+v, want after %d of %s", auth, seq, epoch)
	}
}

func TestResumesAfterLastHandled(t *testing.T) {
	s := newServer(t)
	r := start(s, nil)
	if got := r.Position(); got != (client.Position{}) {
		t.Errorf("Position = %+v before the first admission", got)
	}
	p := s.accept()
	if auth := p.admit(ready(3)); auth.After != nil || auth.Epoch != "" || auth.User != "" {
		t.Errorf("the first auth = %+v", auth)
	}
	p.send(msg(5), msg(9))
	r.until("msg 9")
	eventually(t, "position 9", func() bool { return r.Position() == client.Position{User: "42", Epoch: "e1", Seq: 9} })
	p.cut()

	p = s.accept()
	wantResume(t, p.admit(ready(9)), "e1", 9)
	p.send(msg(5), msg(9), msg(10), msg(10), msg(4)) // repeats are dropped
	p.send(wire.Live{Seq: 20})
	r.until("waiting")
	r.want("connecting", "replaying", "ready 42 e1 9", "msg 10", "live", "live at 20")
	p.cut()

	p = s.accept() // live moved the position
	wantResume(t, p.admit(ready(20)), "e1", 20)
	p.send(wire.Live{Seq: 20}, wire.Ping{}, wire.Ping{Seq: 31}, wire.Acked{Seq: 31})
	r.until("acked 31 0") // sent after the ping
	p.cut()

	wantResume(t, s.accept().admit(ready(31)), "e1", 31) // so did ping
	if got := r.Position().Seq; got != 31 {
		t.Errorf("Position is %d", got)
	}
}

func TestResumesEarlierRun(t *testing.T) {
	s := newServer(t)
	at := client.Position{User: "42", Epoch: "e1", Seq: 7}
	r := start(s, func(cfg *client.Config) { cfg.Resume = &at })
	if got := r.Position(); got != at {
		t.Errorf("Position = %+v", got)
	}
	p := s.accept()
	wantResume(t, p.admit(ready(7)), "e1", 7)
	p.send(msg(7), msg(8))
	r.want("connecting", "replaying", "ready 42 e1 7", "msg 8")
	if ack := next[wire.Ack](p); ack.Seq != 8 {
		t.Errorf("the first acknowledgement is %d, want the first message of this run", ack.Seq)
	}
}

func TestResumesAtZero(t *testing.T) {
	s := newServer(t)
	start(s, func(cfg *client.Config) { cfg.Resume = &client.Position{User: "42", Epoch: "e1"} })
	wantResume(t, s.accept().admit(ready(0)), "e1", 0)
}

func TestStartsOver(t *testing.T) {
	for name, c := range map[string]struct {
		ready wire.Ready
		gap   *wire.Gap
		from  uint64 // the first message that is not a repeat
	}{
		"same epoch":                     {ready: ready(7), from: 8},
		"lower start, no gap":            {ready: ready(3), from: 4},
		"another epoch":                  {ready: wire.Ready{User: "42", Epoch: "e2"}, from: 1},
		"another epoch, with gap":        {ready: wire.Ready{User: "42", Epoch: "e2", After: 2}, gap: &wire.Gap{After: 2, Reason: wire.GapStreamReset}, from: 3},
		"another user":                   {ready: wire.Ready{User: "43", Epoch: "e1", After: 4}, from: 5},
		"past the end of the same epoch": {ready: ready(3), gap: &wire.Gap{After: 3, Reason: wire.GapStreamReset}, from: 4},
		"expired gap does not reset":     {ready: ready(7), gap: &wire.Gap{After: 7, Next: 9, Reason: wire.GapExpired}, from: 8},
		"purged gap does not reset":      {ready: ready(7), gap: &wire.Gap{After: 3, Reason: wire.GapPurged}, from: 8},
		"limit gap does not reset":       {ready: ready(7), gap: &wire.Gap{After: 7, Next: 20, Reason: wire.GapLimit}, from: 8},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			got := make(chan client.Message, 64)
			r := start(s, func(cfg *client.Config) {
				cfg.OnMessage = func(_ context.Context, m client.Message) error {
					got <- m
					return nil
				}
			})
			p := s.accept()
			p.admit(ready(6))
			p.send(msg(7))
			if ack := next[wire.Ack](p); ack.Seq != 7 {
				t.Fatalf("ack %d", ack.Seq)
			}
			receive(t, got)
			p.cut()

			p = s.accept()
			wantResume(t, p.admit(c.ready), "e1", 7)
			if c.gap != nil {
				p.send(*c.gap)
			}
			for seq := c.ready.After + 1; seq <= c.from; seq++ {
				p.send(msg(seq))
			}
			m := receive(t, got)
			if m.Seq != c.from || m.Epoch != c.ready.Epoch {
				t.Fatalf("the first message is %d of %s, want %d", m.Seq, m.Epoch, c.from)
			}
			want := client.Position{User: c.ready.User, Epoch: c.ready.Epoch, Seq: c.from}
			eventually(t, "the new position", func() bool { return r.Position() == want })
			// Acknowledgements of the old epoch are not repeated.
			for ack := uint64(0); ack != c.from; {
				if ack = next[wire.Ack](p).Seq; ack > c.from || ack < min(c.from, c.ready.After) {
					t.Fatalf("ack %d", ack)
				}
			}
		})
	}
}

func TestFailedMessageIsDeliveredAgain(t *testing.T) {
	s := newServer(t)
	broken := errors.New("database is down")
	fail := true
	r := start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(_ context.Context, m client.Message) error {
			if m.Seq == 6 && fail {
				fail = false
				return broken
			}
			return nil
		}
	})
	p := s.accept()
	p.admit(ready(4))
	p.try(msg(5), msg(6), msg(7), wire.Live{Seq: 7}, wire.Ping{Seq: 9})
	if ack := next[wire.Ack](p); ack.Seq != 5 {
		t.Errorf("ack %d, want the last handled message", ack.Seq)
	}
	if code := p.waitEnd(); code != websocket.CloseNormalClosure {
		t.Errorf("close code %d", code)
	}
	r.want("connecting", "replaying", "ready 42 e1 4", "msg 5", "msg 6", "waiting")
	if err := r.reason(client.Waiting); !errors.Is(err, broken) {
		t.Errorf("waits with error %v", err)
	}
	if got := r.Position().Seq; got != 5 {
		t.Errorf("Position is %d", got)
	}

	p = s.accept()
	wantResume(t, p.admit(ready(5)), "e1", 5)
	p.send(msg(6), msg(7))
	r.want("connecting", "replaying", "ready 42 e1 5", "msg 6", "msg 7")
}

// A handler may return an error of this package, perhaps from another client. It must not stop this
// client.
func TestHandlerErrorDoesNotStop(t *testing.T) {
	s := newServer(t)
	r := start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(context.Context, client.Message) error {
			return errors.Join(client.ErrUnauthorized, &client.CloseError{Code: wire.CloseForbidden})
		}
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1))
	r.until("msg 1", "waiting", "connecting")
}

// Messages that were queued when the connection was lost are handled, so that a slow handler makes
// progress.
func TestQueuedMessagesAreHandledAfterConnectionLoss(t *testing.T) {
	s := newServer(t)
	hold := make(gate)
	r := start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, _ client.Message) error { return hold.wait(ctx) }
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), msg(2), msg(3))
	p.close(wire.CloseInternal, "")
	p.waitEnd() // the client has read all frames
	close(hold)
	r.until("msg 1", "msg 2", "msg 3", "waiting")
	wantClose(t, r.reason(client.Waiting), wire.CloseInternal)
	p = s.accept()
	wantResume(t, p.admit(ready(3)), "e1", 3)
	if ack := next[wire.Ack](p); ack.Seq != 3 {
		t.Errorf("ack %d", ack.Seq)
	}
}

func TestInvalidServerFrames(t *testing.T) {
	for name, c := range map[string]struct {
		kind  int
		frame string
		code  int
	}{
		"binary":        {websocket.BinaryMessage, `{"type":"ping"}`, websocket.CloseUnsupportedData},
		"not JSON":      {websocket.TextMessage, `hello`, websocket.CloseProtocolError},
		"bad msg":       {websocket.TextMessage, `{"type":"msg","seq":"1"}`, websocket.CloseProtocolError},
		"second ready":  {websocket.TextMessage, `{"type":"ready","epoch":"e1"}`, websocket.CloseProtocolError},
		"invalid UTF-8": {websocket.TextMessage, "{\"type\":\"ping\xff\"}", websocket.CloseProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r := start(s, nil)
			p := s.accept()
			p.admit(ready(0))
			p.sendRaw(c.kind, c.frame)
			if code := p.waitEnd(); code != c.code {
				t.Errorf("close code %d, want %d", code, c.code)
			}
			r.until("waiting")
			if err := r.reason(client.Waiting); !strings.HasPrefix(err.Error(), "protocol error") {
				t.Errorf("waits with error %v", err)
			}
			s.accept()
		})
	}
	s := newServer(t)
	start(s, nil)
	p := s.accept()
	next[wire.Auth](p)
	p.send(msg(1)) // before ready
	if code := p.waitEnd(); code != websocket.CloseProtocolError {
		t.Errorf("close code %d", code)
	}
}

func TestMaxFrame(t *testing.T) {
	s := newServer(t)
	r := start(s, nil)
	p := s.accept()
	p.admit(ready(0))
	// The largest default notification, with six bytes for each byte of data.
	p.sendRaw(websocket.TextMessage, `{"type":"msg","seq":1,"time":"2026-11-22T17:55:19Z","data":"`+strings.Repeat(`\u0000`, 256<<10)+`"}`)
	r.until("msg 1")
	_ = p.ws.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte{' '}, 2<<20+1)) // may fail if the client has closed
	wantClose(t, r.wait(), websocket.CloseMessageTooBig)
	if code := p.waitEnd(); code != websocket.CloseMessageTooBig && code != websocket.CloseAbnormalClosure {
		t.Errorf("close code %d", code)
	}
}

// A message on which OnMessage always fails must not block later ones for ever. It is skipped after
// enough attempts over enough time.
func TestFailingMessageIsSkipped(t *testing.T) {
	s := newServer(t)
	poison := errors.New("cannot be handled")
	attempts, skipped := 0, make(chan client.Message, 1)
	r := start(s, func(cfg *client.Config) {
		cfg.Patience, cfg.MinBackoff, cfg.MaxBackoff = 40*time.Millisecond, 2*time.Millisecond, 10*time.Millisecond
		cfg.Rand = func() float64 { return 1 }
		cfg.OnMessage = func(_ context.Context, m client.Message) error {
			if m.Seq != 5 {
				return nil
			}
			attempts++
			return poison
		}
		cfg.OnSkip = func(m client.Message, err error) {
			if !errors.Is(err, poison) {
				t.Errorf("skipped with error %v", err)
			}
			skipped <- m
		}
	})
	began := time.Now()
	for {
		p := s.accept()
		p.admit(ready(4))
		p.try(msg(5), msg(6), wire.Live{Seq: 6})
		select {
		case <-p.ended:
			continue
		case m := <-skipped:
			pauses := time.Since(began)
			if m.Seq != 5 || string(m.Data) != "5" || attempts < 5 || pauses < 40*time.Millisecond {
				t.Errorf("%+v skipped after %d attempts in %v", m, attempts, pauses)
			}
			r.until("msg 6")
			for next[wire.Ack](p).Seq != 6 {
			}
			return
		}
	}
}

// Failures do not count if the connection was lost: the network that the handler needs may be gone
// too. Otherwise there must be enough attempts over enough time.
func TestFailuresThatDoNotSkip(t *testing.T) {
	for name, configure := range map[string]func(cfg *client.Config){
		"without a connection": func(cfg *client.Config) { cfg.Attempts, cfg.Patience = 2, time.Nanosecond },
		"with patience left":   func(cfg *client.Config) { cfg.Attempts = 2 },
		"with attempts left":   func(cfg *client.Config) { cfg.Attempts, cfg.Patience = 100, time.Nanosecond },
		"never":                func(cfg *client.Config) { cfg.Attempts, cfg.Patience = -1, time.Nanosecond },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			peers := make(chan *peer, 1)
			start(s, func(cfg *client.Config) {
				cfg.MinBackoff, cfg.MaxBackoff = time.Millisecond, time.Millisecond
				configure(cfg)
				cfg.OnMessage = func(context.Context, client.Message) error {
					if p := <-peers; name == "without a connection" {
						p.cut()
						eventually(t, "the reader has returned", func() bool { return !strings.Contains(stacks(), "client.(*conn).read(") })
					}
					return errors.New("not now")
				}
				cfg.OnSkip = func(m client.Message, _ error) { t.Errorf("%d was skipped", m.Seq) }
			})
			for range 6 {
				p := s.accept()
				p.admit(ready(4))
				p.try(msg(5))
				peers <- p
				p.waitEnd()
			}
		})
	}
}
