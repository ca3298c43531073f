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

// fixedBackoff makes the waits long enough to distinguish, and not random: 50, 100, 200, 400 ms and
// so on.
func fixedBackoff(cfg *client.Config) {
	cfg.MinBackoff, cfg.MaxBackoff = 50*time.Millisecond, 10*time.Second
	cfg.Rand = func() float64 { return 1 }
}

// scaledBackoff is fixedBackoff with waits that are factor times as long, so that a short wait
// cannot be mistaken for a long one on a busy machine.
func scaledBackoff(cfg *client.Config) (factor *atomic.Int64) {
	fixedBackoff(cfg)
	factor = &atomic.Int64{}
	factor.Store(1)
	cfg.Rand = func() float64 { return float64(factor.Load()) }
	return factor
}

// reconnect ends a connection. It returns the next connection, and the time from before the end
// until then: a little more than the client waited.
func reconnect(s *server, end func()) (*peer, time.Duration) {
	s.t.Helper()
	began := time.Now()
	end()
	p := s.accept()
	return p, p.at.Sub(began)
}

func TestBackoffGrowsUntilLive(t *testing.T) {
	s := newServer(t)
	var handles atomic.Bool
	var factor *atomic.Int64
	start(s, func(cfg *client.Config) {
		factor = scaledBackoff(cfg)
		cfg.OnMessage = func(context.Context, client.Message) error {
			if handles.Load() {
				return nil
			}
			return errors.New("poison")
		}
	})
	p := s.accept()
	for _, min := range []time.Duration{50, 100, 200, 400} {
		p.admit(ready(0))
		var waited time.Duration
		p, waited = reconnect(s, func() {
			if min < 400 {
				p.try(msg(1), wire.Live{Seq: 1})
				return
			}
			handles.Store(true) // the handler succeeds, but the connection closes before live
			p.send(msg(1))
			next[wire.Ack](p)
			p.close(wire.CloseInternal, "")
		})
		if waited < min*time.Millisecond {
			t.Errorf("reconnected after %v, want at least %d ms", waited, min)
		}
	}
	p.admit(ready(1))
	next[wire.Ack](p)
	p.send(wire.Live{Seq: 1})
	factor.Store(8)
	_, waited := reconnect(s, func() { p.close(wire.CloseInternal, "") })
	if waited < 8*50*time.Millisecond || waited >= 8*800*time.Millisecond {
		t.Errorf("reconnected %v after live, want 8 times 50 ms, not 800 ms", waited)
	}
}

func TestGoawayRetryAfter(t *testing.T) {
	s := newServer(t)
	start(s, nil) // the backoff is at most 5 ms
	p := s.accept()
	p.admit(ready(0))
	p.send(wire.Live{}, wire.Goaway{Code: wire.CloseDraining, Reason: "draining", RetryAfter: 300})
	if _, waited := reconnect(s, func() { p.close(wire.CloseDraining, "draining") }); waited < 300*time.Millisecond {
		t.Errorf("reconnected after %v", waited)
	}
}

func TestGoawayRetryAfterMayBeShorter(t *testing.T) {
	s := newServer(t)
	start(s, func(cfg *client.Config) {
		fixedBackoff(cfg)
		cfg.MinBackoff = time.Hour
		cfg.MaxBackoff = time.Hour
	})
	p := s.accept()
	p.admit(ready(0))
	p.send(wire.Goaway{Code: wire.CloseDraining, RetryAfter: 1})
	p.close(wire.CloseDraining, "")
	s.accept()
}

func TestExpiredLeaseReconnectsWithoutBackoff(t *testing.T) {
	s := newServer(t)
	tokens := 0
	var factor *atomic.Int64
	start(s, func(cfg *client.Config) {
		factor = scaledBackoff(cfg)
		cfg.Token = func(context.Context) (string, error) {
			tokens++
			return fmt.Sprintf("token-%d", tokens), nil
		}
	})
	p := s.accept()
	for _, min := range []time.Duration{50, 100, 200} {
		var waited time.Duration
		if p, waited = reconnect(s, func() { p.close(wire.CloseInternal, "") }); waited < min*time.Millisecond {
			t.Errorf("reconnected after %v, want at least %d ms", waited, min)
		}
	}
	factor.Store(8)
	p, waited := reconnect(s, func() { p.close(wire.CloseLeaseExpired, "") })
	if waited < 8*50*time.Millisecond || waited >= 8*400*time.Millisecond {
		t.Errorf("reconnected %v after 4501, want 8 times 50 ms, not 400 ms", waited)
	}
	factor.Store(1)
	if auth := next[wire.Auth](p); auth.Token != "token-5" {
		t.Errorf("reconnected with %s", auth.Token)
	}
	// The lease of the fresh token has expired too.
	if _, waited = reconnect(s, func() { p.close(wire.CloseLeaseExpired, "") }); waited < 800*time.Millisecond {
		t.Errorf("reconnected after %v, want at least 800 ms", waited)
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
	if err := r.reason(client.Waiting); !errors.Is(err, away) {
		t.Errorf("waits with error %v", err)
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
		cfg.OnMessage = func(ctx context.Context, _ client.Message) error { return hold.wait(ctx) }
	})
	answers <- answer{token: "token-1"}
	p := s.accept()
	p.admit(ready(0))
	p.send(msg(1), wire.Expiring{In: 60_000}) // a busy handler does not delay the renewal
	answers <- answer{token: "token-2"}
	if renew := next[wire.Renew](p); renew.Token != "token-2" {
		t.Errorf("renewed with %s", renew.Token)
	}
	p.send(wire.Error{Code: wire.ErrorRenewUnavailable, Message: "try again"})
	answers <- answer{token: "token-3"}
	if renew := next[wire.Renew](p); renew.Token != "token-3" {
		t.Errorf("renewed with %s", renew.Token)
	}
	p.send(wire.Renewed{ExpiresIn: 60_000})
	close(hold)
	r.until("error the server reports renew_unavailable: try again")

	answers <- answer{err: errors.New("away")}
	p.send(wire.Expiring{In: 60_000})
	r.until("error token for renewal: away")
	p.send(msg(2)) // the connection stays open
	r.until("msg 2")

	answers <- answer{err: client.ErrUnauthorized}
	p.send(wire.Expiring{In: 60_000})
	if err := r.wait(); !errors.Is(err, client.ErrUnauthorized) {
		t.Errorf("Run = %v", err)
	}
	p.waitEnd()
}

// A call of Config.Token for a renewal is cancelled when its connection ends.
func TestRenewalEndsWithConnection(t *testing.T) {
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
