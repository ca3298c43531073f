package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
)

func TestStopSendsPendingAck(t *testing.T) {
	s := newServer(t)
	r := start(s, func(cfg *client.Config) { cfg.AckEvery = time.Hour })
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), msg(2), wire.Live{Seq: 2})
	r.until("live at 2")
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	r.want("closed")
	if ack := next[wire.Ack](p).Seq; ack != 2 {
		t.Errorf("ack %d, want 2", ack)
	}
	if code := p.waitEnd(); code != websocket.CloseNormalClosure {
		t.Errorf("close code %d", code)
	}
}

// A handler that is running when the client is stopped counts if it succeeds. No handler is called
// after it.
func TestStopWaitsForHandler(t *testing.T) {
	s := newServer(t)
	hold, entered := make(chan struct{}), make(chan struct{})
	r := start(s, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, m client.Message) error {
			close(entered) // panics if called again
			<-ctx.Done()
			<-hold
			return nil
		}
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), msg(2))
	receive(t, entered)
	r.cancel()
	select {
	case <-r.ended:
		t.Fatal("Run did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(hold)
	if err := r.wait(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if ack := next[wire.Ack](p).Seq; ack != 1 {
		t.Errorf("ack %d, want 1", ack)
	}
	if got := r.Position().Seq; got != 1 {
		t.Errorf("Position is %d", got)
	}
}

// A server that neither reads nor answers delays the end by a second at most.
func TestStopIsBounded(t *testing.T) {
	s := newServer(t)
	s.set(func(s *server) { s.noReads = true })
	r := start(s, nil)
	p := s.accept()
	p.send(wire.Hello{Protocol: wire.Subprotocol}, ready(0), msg(1))
	r.until("msg 1")
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Run took %v to return", took)
	}
}

func TestCloseCodesThatStop(t *testing.T) {
	for _, code := range []wire.CloseCode{
		wire.CloseBadFrame, wire.CloseUnauthorized, wire.CloseForbidden, wire.CloseDisconnected, 4499, 1008,
	} {
		s := newServer(t)
		r := start(s, nil)
		p := s.accept()
		next[wire.Auth](p)
		p.close(code, "logout")
		err := r.wait()
		wantClose(t, err, code)
		if !strings.Contains(err.Error(), code.String()) || !strings.Contains(err.Error(), "logout") {
			t.Errorf("error = %v", err)
		}
		r.want("connecting", "closed")
		if !errors.Is(r.reason(client.Closed), err) {
			t.Errorf("closed with %v", r.reason(client.Closed))
		}
	}
}

func TestCloseCodesThatReconnect(t *testing.T) {
	s := newServer(t)
	r := start(s, nil)
	for _, code := range []wire.CloseCode{
		1000, 1001, 1011, 1012, wire.CloseInternal, wire.CloseUnavailable, wire.CloseTimeout, wire.CloseStreamReplaced,
		wire.CloseDraining, wire.CloseTooMany, 4599, 4000,
	} {
		p := s.accept()
		p.admit(ready(0))
		p.close(code, "")
		r.until("waiting")
		wantClose(t, r.reason(client.Waiting), code)
	}
	s.accept()
}

// The close frame may get lost. The goaway frame before it says the same.
func TestGoawayWithoutCloseFrame(t *testing.T) {
	s := newServer(t)
	r := start(s, nil)
	p := s.accept()
	p.admit(ready(0))
	p.send(wire.Goaway{Code: wire.CloseDisconnected, Reason: "logout"})
	eventually(t, "the client has read goaway", func() bool { p.send(wire.Ping{}); return len(p.frames) > 0 })
	p.cut()
	err := r.wait()
	wantClose(t, err, wire.CloseDisconnected)
	if !strings.Contains(err.Error(), "logout") {
		t.Errorf("error = %v", err)
	}
}

func TestErrorsDoNotContainToken(t *testing.T) {
	const canary = "token-CANARY-7f3a"
	s := newServer(t)
	var reported []error
	r := start(s, func(cfg *client.Config) {
		cfg.Token = func(context.Context) (string, error) { return canary, nil }
		cfg.OnError = func(err error) { reported = append(reported, err) }
		onState := cfg.OnState
		cfg.OnState = func(state client.State, err error) {
			reported = append(reported, err)
			onState(state, err)
		}
	})
	connect := func() *peer {
		p := s.accept()
		if p.admit(ready(0)).Token != canary {
			t.Error("auth has another token")
		}
		return p
	}
	connect().sendRaw(websocket.TextMessage, canary)
	connect().close(wire.CloseInternal, "no "+canary)
	p := connect()
	p.send(wire.Error{Code: canary, Message: canary}, wire.Goaway{Code: wire.CloseInternal, Reason: canary})
	p.close(wire.CloseInternal, "")
	connect().close(wire.CloseUnauthorized, "unknown token: "+canary)
	err := r.wait()
	wantClose(t, err, wire.CloseUnauthorized)
	for _, err := range append(reported, err) {
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("an error contains the token: %v", err)
		}
	}
}
