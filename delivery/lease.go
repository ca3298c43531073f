package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
)

// renewEvery is how often a client may ask the backend anew.
const renewEvery = time.Second

// lease is until when the backend's word holds.
type lease struct {
	end  time.Time // zero: it has none
	warn time.Time // when the client is told that it ends
}

// setLease notes until when an identity, just received, holds.
func (s *session) setLease(identity auth.Identity) {
	var l lease
	if identity.ExpiresIn > 0 {
		l.end = time.Now().Add(identity.ExpiresIn)
		l.warn = l.end.Add(-min(s.g.cfg.ExpiringLead, identity.ExpiresIn/2))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = l
}

func (s *session) currentLease() lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

func (l lease) over(now time.Time) bool { return !l.end.IsZero() && !now.Before(l.end) }

// renew authenticates a fresh token in-band. Until there is an answer the old lease holds, and ends when it ends.
func (s *session) renew(ctx context.Context, token string) error {
	select { // meanwhile the client is not read, which slows it down
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(s.renewed.Add(renewEvery))):
		s.renewed = time.Now()
	}
	request := s.request
	request.Token = token
	identity, err := s.g.authenticateAgain(ctx, request, s.cursor.User)
	var refusal *auth.Refusal
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, auth.ErrUnavailable), errors.As(err, &refusal) && refusal.RetryAfter > 0:
		return s.tell(ctx, wire.Error{Code: wire.ErrorRenewUnavailable, Message: "nobody could say whether the token is good: try again"})
	case err != nil:
		return err
	}
	sources, err := s.sources(identity)
	if err != nil {
		return err
	}
	s.setLease(identity)
	s.renewals++
	if err := s.tell(ctx, sources); err != nil {
		return err
	}
	return s.tell(ctx, wire.Renewed{ExpiresIn: identity.ExpiresIn.Milliseconds()})
}
