package client

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// ErrUnauthorized is for Config.Token: an error that wraps it means that no token is available, and
// stops the client.
var ErrUnauthorized = errors.New("unauthorized")

// CloseError reports that the server closed or refused the connection. Code.Retry reports whether
// the client reconnects; if it does not, Run returns the error. For a refusal with an HTTP status,
// Code is the close code with the same meaning.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
}

// Error returns the code, the reason, and a hint if there is one.
func (e *CloseError) Error() string {
	text := "closed with " + e.Code.String()
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	switch e.Code {
	case wire.CloseUnauthorized:
		text += " (check that Config.Token returns a fresh token of this server)"
	case wire.CloseNoProtocol:
		text += " (this client speaks " + wire.Subprotocol + ")"
	}
	return text
}

// ending is why a connection attempt is over, and what the client does next.
type ending struct {
	err           error
	stop          bool          // Run returns err
	handlerFailed bool          // OnMessage failed on a message, and the failure counts
	wait          time.Duration // minimum wait before the next attempt, requested by the server; 0: none
	// jitter is set if wait is the same for every client and a random time must be added.
	jitter bool
}

// closed returns the ending for a close code.
func closed(code wire.CloseCode, reason string) *ending {
	return &ending{err: &CloseError{Code: code, Reason: reason}, stop: !code.Retry()}
}

// refused returns the ending for an HTTP response in place of the upgrade.
func refused(r *http.Response) *ending {
	reason := fmt.Sprintf("HTTP %d %s", r.StatusCode, http.StatusText(r.StatusCode))
	end := &ending{err: fmt.Errorf("connect: %s instead of the WebSocket upgrade", reason)}
	switch {
	case r.StatusCode == http.StatusTooManyRequests:
		end = closed(wire.CloseTooMany, reason)
	case r.StatusCode == http.StatusServiceUnavailable:
		end = closed(wire.CloseUnavailable, reason)
	case r.StatusCode == http.StatusUnauthorized:
		end = closed(wire.CloseUnauthorized, reason)
	case r.StatusCode == http.StatusForbidden:
		end = closed(wire.CloseForbidden, reason)
	case r.StatusCode >= 400 && r.StatusCode < 500:
		end = closed(wire.CloseNoProtocol, reason+" instead of the WebSocket upgrade (check Config.URL)")
	}
	end.wait, end.jitter = retryAfter(r.Header.Get("Retry-After")), true
	return end
}

// maxWait limits the wait that a server can request.
const maxWait = time.Hour

// retryAfter parses a Retry-After header: seconds or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return bounded(seconds, time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return bounded(int64(time.Until(at)/time.Millisecond), time.Millisecond)
	}
	return 0
}

// bounded returns n units as a duration between 0 and maxWait.
func bounded(n int64, unit time.Duration) time.Duration {
	return time.Duration(min(max(n, 0), int64(maxWait/unit))) * unit
}
