package client

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// ErrUnauthorized is for Config.Token: an error that wraps it says that there is no token to be had, and stops the client.
var ErrUnauthorized = errors.New("unauthorized")

// CloseError says that the server closed the connection, or refused it. Code.Again tells whether the client comes again
// by itself; Run returns it where not. An HTTP refusal carries the close code that means the same.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
}

// Error implements error.
func (e *CloseError) Error() string {
	text := "closed with " + e.Code.String()
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	switch e.Code {
	case wire.CloseUnauthorized:
		text += " (does Config.Token return a fresh token of this server?)"
	case wire.CloseNoProtocol:
		text += " (this client speaks " + wire.Subprotocol + ")"
	}
	return text
}

// ending is why an attempt at a connection is over, and what follows from it.
type ending struct {
	err    error
	stop   bool          // for good
	failed bool          // by OnMessage, on a message that it is to be given again
	wait   time.Duration // before the next attempt, at least, by the server's wish; 0: it has none
	// spread tells that wait is the same for every client and wants jitter.
	spread bool
}

// closed is the ending by a close code.
func closed(code wire.CloseCode, reason string) *ending {
	return &ending{err: &CloseError{Code: code, Reason: reason}, stop: !code.Retry()}
}

// refused is the ending by an HTTP response in place of the upgrade.
func refused(r *http.Response) *ending {
	reason := fmt.Sprintf("HTTP %d %s", r.StatusCode, http.StatusText(r.StatusCode))
	end := &ending{err: fmt.Errorf("connect: %s in place of the upgrade", reason)}
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
		end = closed(wire.CloseNoProtocol, reason+" in place of the upgrade, is Config.URL the gateway's?")
	}
	end.wait, end.spread = retryAfter(r.Header.Get("Retry-After")), true
	return end
}

// longestWait bounds what a server may ask for.
const longestWait = time.Hour

// retryAfter reads the header of that name: seconds or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return bounded(seconds, time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return bounded(int64(time.Until(at)/time.Millisecond), time.Millisecond)
	}
	return 0
}

// bounded returns n units, within nothing and longestWait.
func bounded(n int64, unit time.Duration) time.Duration {
	return time.Duration(min(max(n, 0), int64(longestWait/unit))) * unit
}
