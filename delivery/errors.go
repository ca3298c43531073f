package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// closing is why a session ends, as its client is told.
type closing struct {
	code       wire.CloseCode
	reason     string
	retryAfter time.Duration // told in a goaway before the close, and
	spread     time.Duration // a random part of this on top, so that not all come at once; both 0: left to the client
}

func (c *closing) Error() string { return fmt.Sprintf("%s: %s", c.code, c.reason) }

// retry is when the client should come again, drawn for it alone.
func (c *closing) retry() time.Duration {
	if c.spread > 0 {
		return c.retryAfter + rand.N(c.spread)
	}
	return c.retryAfter
}

// comeAgain is a closing for a cause that passes.
func comeAgain(code wire.CloseCode, reason string, after time.Duration) *closing {
	return &closing{code: code, reason: reason, retryAfter: after, spread: after / 2}
}

// closingFor is the one place where errors become close codes. Reasons are for people, and hold nothing secret.
func closingFor(err error) *closing {
	var c *closing
	var refusal *auth.Refusal
	var unasked *auth.Unavailable
	switch {
	case errors.As(err, &c):
		return c
	case errors.As(err, &refusal):
		reason := refusal.Message
		if reason == "" {
			reason = refusal.Code
		}
		switch {
		case refusal.RetryAfter > 0:
			return comeAgain(wire.CloseUnavailable, reason, refusal.RetryAfter)
		case refusal.Code == auth.CodeTokenExpired:
			return &closing{code: wire.CloseLeaseExpired, reason: reason}
		case refusal.Code == auth.CodeForbidden:
			return &closing{code: wire.CloseForbidden, reason: reason}
		}
		return &closing{code: wire.CloseUnauthorized, reason: reason}
	case errors.Is(err, auth.ErrBadReply):
		return &closing{code: wire.CloseUnauthorized, reason: "the backend's answer admits nobody"}
	case errors.Is(err, auth.ErrBusy): // a storm: they must not come again together
		return &closing{code: wire.CloseUnavailable, reason: "authentication is busy", retryAfter: 2 * time.Second, spread: 8 * time.Second}
	case errors.As(err, &unasked):
		return &closing{code: wire.CloseUnavailable, reason: "authentication is unavailable", retryAfter: unasked.RetryAfter}
	case errors.Is(err, auth.ErrUnavailable):
		return comeAgain(wire.CloseUnavailable, "authentication is unavailable", 2*time.Second)
	case errors.Is(err, wire.ErrBadFrame):
		return &closing{code: wire.CloseBadFrame, reason: err.Error()}
	case errors.Is(err, streams.ErrReplaced):
		return &closing{code: wire.CloseStreamReplaced, reason: "the stream was replaced"}
	case errors.Is(err, streams.ErrMissed):
		return comeAgain(wire.CloseUnavailable, streams.ErrMissed.Error(), time.Second)
	case errors.Is(err, streams.ErrTooManyDevices):
		return comeAgain(wire.CloseTooMany, "too many devices", 30*time.Second)
	case errors.Is(err, errTimeout):
		return &closing{code: wire.CloseTimeout, reason: err.Error()}
	case streams.Refusal(err) != "": // which an operator must end
		return comeAgain(wire.CloseUnavailable, streams.Refusal(err), 30*time.Second)
	case unavailable(err):
		return comeAgain(wire.CloseUnavailable, "NATS is unavailable", 2*time.Second)
	}
	return comeAgain(wire.CloseInternal, "internal error", 2*time.Second)
}

// unavailable says whether an error is of NATS being away, slow, without a leader, or in another state that passes.
func unavailable(err error) bool {
	for _, passing := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionClosed,
		nats.ErrConnectionReconnecting, streams.ErrNoJetStream,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return streams.Passing(err)
}

var (
	errTimeout    = errors.New("timeout")
	errClientGone = errors.New("connection lost")

	errLeaseExpired = &closing{code: wire.CloseLeaseExpired, reason: "the lease has expired: come again with a fresh token"}
)
