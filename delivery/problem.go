package delivery

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// problem is an error as HTTP tells it (RFC 9457). Detail says what to do, and holds nothing secret.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`

	// Of a publication that failed as a whole: what became of it at each recipient, and the id to try again with.
	ID      string   `json:"id,omitempty"`
	Results []result `json:"results,omitempty"`

	retryAfter time.Duration
	allow      []string // methods
}

func (p *problem) Error() string { return fmt.Sprintf("%d: %s", p.Status, p.Detail) }

func problemf(status int, format string, args ...any) *problem {
	return &problem{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// problemFor is the one place where errors become HTTP answers. What a connection can end with is in closingFor.
func problemFor(err error) *problem {
	var p *problem
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &long):
		return problemf(http.StatusRequestEntityTooLarge, "the body may have %d bytes: send a reference in data, or fewer recipients", long.Limit)
	case errors.Is(err, streams.ErrTooLarge):
		return problemf(http.StatusRequestEntityTooLarge, "%s", err)
	case errors.Is(err, streams.ErrConflict):
		return problemf(http.StatusConflict, "%s", err)
	case errors.Is(err, streams.ErrBadNotification), errors.Is(err, streams.ErrBadName):
		return problemf(http.StatusBadRequest, "%s", err)
	}
	if refused := streams.Refusal(err); refused != "" {
		p = problemf(http.StatusServiceUnavailable, "%s: an operator must act; the gateway's log says how", refused)
		p.retryAfter = 30 * time.Second
		return p
	}
	c := closingFor(err)
	p = problemf(http.StatusInternalServerError, "%s: try again; the gateway's log says more", c.reason)
	switch c.code {
	case wire.CloseUnauthorized, wire.CloseLeaseExpired:
		p = problemf(http.StatusUnauthorized, "the token is refused: %s", c.reason)
	case wire.CloseBadFrame:
		p = problemf(http.StatusBadRequest, "%s", c.reason)
	case wire.CloseDisconnected:
		p = problemf(http.StatusForbidden, "%s", c.reason)
	case wire.CloseForbidden:
		p = problemf(http.StatusForbidden, "the token is refused: %s", c.reason)
	case wire.CloseTooMany:
		p = problemf(http.StatusTooManyRequests, "%s: try again later", c.reason)
		p.retryAfter = max(time.Second, c.retry())
	case wire.CloseUnavailable, wire.CloseStreamReplaced, wire.CloseDraining:
		p = problemf(http.StatusServiceUnavailable, "%s: try again in a moment", c.reason)
		p.retryAfter = max(time.Second, c.retry())
	}
	return p
}

// writeProblem ends a request with an error.
func writeProblem(w http.ResponseWriter, err error) {
	p := *problemFor(err)
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	for _, method := range p.allow {
		w.Header().Add("Allow", method)
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, body any) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // it is no HTML, and notifications stay as large as their frames
	_ = enc.Encode(body)     // of what is written here never fails
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // a client that is gone needs no answer
}
