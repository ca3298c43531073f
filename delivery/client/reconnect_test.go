package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
)

// slowly makes the waits long enough to be told apart, and without chance: 50, 100, 200, 400 ms and so on.
func slowly(cfg *client.Config) {
	cfg.MinBackoff, cfg.MaxBackoff = 50*time.Millisecond, 10*time.Second
	cfg.Rand = func() float64 { return 1 }
}

// slower is slowly, where each wait is stretched times as long: so that a short one cannot be taken for a long one on a busy machine.
func slower(cfg *client.Config) (stretched *atomic.Int64) {
	slowly(cfg)
	stretched = &atomic.Int64{}
	stretched.Store(1)
	cfg.Rand = func() float64 { return float64(stretched.Load()) }
	return stretched
}

// again ends a connection and returns the next one, and the time from before the end until then: a little more than the
// client waited.
func again(s *server, end func()) (*peer, time.Duration) {
	s.t.Helper()
	began := time.Now()
	end()
	p := s.accept()
	return p, p.at.Sub(began)
}

func TestBackoffGrowsUntilAllWasHandled(t *testing.T) {
	s := newServer(t)
	var handles atomic.Bool
	var stretched *atomic.Int64
	start(s, func(cfg *client.Config) {
		stretched = slower(cfg)
		cfg.OnMessage = func(context.Context, client.Message) error {
			if handles.Load() {
				return nil
			}
			return errors.New("poison")
		}
	})
	p := s.accept()
	for _, least := range []time.Duration{50, 100, 200, 400} {
		p.admit(ready(0))
		var waited time.Duration
		p, waited = again(s, func() {
			if least < 400 {
				p.try(msg(1), wire.Live{Seq: 1})
				return
			}
			handles.Store(true) // the handler succeeds, but the server goes away before live
			p.send(msg(1))
			next[wire.Ack](p)
			p.close(wire.CloseInternal, "")
		})
		if waited < least*time.Millisecond {
			t.Errorf("came again after %v, want at least %d ms", waited, least)
		}
	}
	p.admit(ready(1))
	next[wire.Ack](p)
	p.send(wire.Live{Seq: 1})
	stretched.Store(8)
	_, waited := again(s, func() { p.close(wire.CloseInternal, "") })
	if waited < 8*50*time.Millisecond || waited >= 8*800*time.Millisecond {
		t.Errorf("reconnected %v after it was live, want 8 times 50 ms, not 800 ms", waited)
	}
}

func TestGoawayRetryAfterWins(t *testing.T) {
	s := newServer(t)
	start(s, nil) // at most 5 ms otherwise
	p := s.accept()
	p.admit(ready(0))
	p.send(wire.Live{}, wire.Goaway{Code: wire.CloseDraining, Reason: "draining", RetryAfter: 300})
	if _, waited := again(s, func() { p.close(wire.CloseDraining, "draining") }); waited < 300*time.Millisecond {
		t.Errorf("came again after %v", waited)
	}
}

func TestGoawayRetryAfterMayBeShorter(t *testing.T) {
	s := newServer(t)
	start(s, func(cfg *client.Config) {
		slowly(cfg)
		cfg.MinBackoff = time.Hour
		cfg.MaxBackoff = time.Hour
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(wire.Goaway{Code: wire.CloseDraining, RetryAfter: 1})
	p.close(wire.CloseDraining, "")
	s.accept()
}

func TestExpiredLeaseComesAgainAtOnce(t *testing.T) {
	s := newServer(t)
	tokens := 0
	var stretched *atomic.Int64
	start(s, func(cfg *client.Config) {
		stretched = slower(cfg)
		cfg.Token = func(context.Context) (string, error) {
			tokens++
			return fmt.Sprintf("token-%d", tokens), nil
		}
	})
	p := s.accept()
	for _, least := range []time.Duration{50, 100, 200} {
		var waited time.Duration
		if p, waited = again(s, func() { p.close(wire.CloseInternal, "") }); waited < least*time.Millisecond {
			t.Errorf("came again after %v, want at least %d ms", waited, least)
		}
	}
	stretched.Store(8)
	p, waited := again(s, func() { p.close(wire.CloseLeaseExpired, "") })
	if waited < 8*50*time.Millisecond || waited >= 8*400*time.Millisecond {
		t.Errorf("reconnected %v after 4501, want 8 times 50 ms, not 400 ms", waited)
	}
	stretched.Store(1)
	if auth := next[wire.Auth](p); auth.Token != "token-5" {
		t.Errorf("came again with %s", auth.Token)
	}
	// The fresh token is no better.
	if _, waited = again(s, func() { p.close(wire.CloseLeaseExpired, "") }); waited < 800*time.Millisecond {
		t.Errorf("came again after %v, want at least 800 ms", waited)
	}
}

func TestTokenErrors(t *testing.T) {
	s := newServer(t)
	asked := 0
	away := errors.New("identity provider is away")
	r := start(s, func(cfg *client.Config) {
		cfg.Token = func(context.Context) (string, error) {
			switch asked++; asked {
			case 1:
				return "", away
			case 2:
				return "token-2", nil
			}
			return "", fmt.Errorf("signed out: %w", client.ErrUnauthorized)
		}
	})
	r.want("connecting", "waiting")
	if err := r.why(client.Waiting); !errors.Is(err, away) {
		t.Errorf("waits for %v", err)
	}
	p := s.accept()
	if auth := p.admit(ready(0)); auth.Token != "token-2" {
		t.Errorf("token = %s", auth.Token)
	}
	p.cut()
	if err := r.wait(); !errors.Is(err, client.ErrUnauthorized) {
		t.Errorf("Run = %v", err)
	}
	r.until("closed")
	if asked != 3 {
		t.Errorf("Token was called %d times", asked)
	}
}

func TestRenewal(t *testing.T) {
	s := newServer(t)
	hold := make(gate)
	type answer struct {
		token string
		err   error
	}
	answers := make(chan answer, 10)
	r := start(s, func(cfg *client.Config) {
		cfg.Token = func(ctx context.Context) (string, error) {
			select {
			case a := <-answers:
				return a.token, a.err
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		cfg.OnMessage = func(ctx context.Context, _ client.Message) error { return hold.pass(ctx) }
	})
	answers <- answer{token: "token-1"}
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), wire.Expiring{In: 60_000}) // a busy handler does not hold the renewal up
	answers <- answer{token: "token-2"}
	if renew := next[wire.Renew](p); renew.Token != "token-2" {
		t.Errorf("renews with %s", renew.Token)
	}
	p.send(wire.Error{Code: wire.ErrorRenewUnavailable, Message: "try again"})
	answers <- answer{token: "token-3"}
	if renew := next[wire.Renew](p); renew.Token != "token-3" {
		t.Errorf("renews with %s", renew.Token)
	}
	p.send(wire.Renewed{ExpiresIn: 60_000})
	close(hold)
	r.until("error the server reports renew_unavailable: try again")

	answers <- answer{err: errors.New("away")}
	p.send(wire.Expiring{In: 60_000})
	r.until("error token for a renewal: away")
	p.send(msg(2)) // the connection goes on
	r.until("msg 2")

	answers <- answer{err: client.ErrUnauthorized}
	p.send(wire.Expiring{In: 60_000})
	if err := r.wait(); !errors.Is(err, client.ErrUnauthorized) {
		t.Errorf("Run = %v", err)
	}
	p.waitEnd()
}

// A token that cannot be had must not outlast the connection it is for.
func TestRenewalEndsWithTheConnection(t *testing.T) {
	s := newServer(t)
	asked := make(chan struct{}, 10)
	first := true
	start(s, func(cfg *client.Config) {
		cfg.Token = func(ctx context.Context) (string, error) {
			asked <- struct{}{}
			if !first {
				<-ctx.Done()
				return "", ctx.Err()
			}
			first = false
			return "token-1", nil
		}
	})
	receive(t, asked)
	p := s.accept()
	p.admit(ready(0))
	p.send(wire.Expiring{In: 1})
	receive(t, asked)
	p.cut()
	receive(t, asked) // for the next connection
}
