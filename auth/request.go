package auth

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// Headers of a request. The payload is the token and nothing else.
const (
	headerConn       = "Tidings-Conn"
	headerRemoteAddr = "Tidings-Remote-Addr"
	headerOrigin     = "Tidings-Origin"
	headerUserAgent  = "Tidings-User-Agent"
	headerDevice     = "Tidings-Device"
	headerRenew      = "Tidings-Renew"
	headerTrace      = "traceparent" // W3C trace context
)

// maxHeader is the maximum size of a header value in bytes. Origin and User-Agent come from unknown
// clients.
const maxHeader = 512

// Request asks which user a token belongs to.
//
// Token is a secret. A Request omits it from everything it prints: fmt, zerolog, JSON. There are
// two exceptions: %p, which vet reports, and a Request in an unexported field of another struct,
// for which fmt calls no methods.
type Request struct {
	// Token is exactly what the client sent: any bytes, possibly none.
	Token string `json:"-"`
	// Conn identifies the connection in the gateway's log.
	Conn string `json:"conn,omitempty"`
	// RemoteAddr, Origin and UserAgent are those of the client, as the gateway saw them. They are
	// hints, not proof. Over NATS they and Device arrive as one line without control characters,
	// each at most 512 bytes of valid UTF-8.
	RemoteAddr string `json:"remote_addr,omitempty"`
	Origin     string `json:"origin,omitempty"`
	UserAgent  string `json:"user_agent,omitempty"`
	// Device is the device that the client named; empty: the user's shared position.
	Device string `json:"device,omitempty"`
	// Renew is true if the connection is already admitted and renews its lease.
	Renew bool `json:"renew,omitempty"`
	// Traceparent is the W3C trace context of a gateway that traces, for a backend that traces too.
	Traceparent string `json:"traceparent,omitempty"`
}

// String returns the request without its token.
func (r Request) String() string {
	return fmt.Sprintf("auth request{conn:%q addr:%q origin:%q agent:%q device:%q renew:%t}",
		r.Conn, r.RemoteAddr, r.Origin, r.UserAgent, r.Device, r.Renew)
}

// Format writes the result of String for every verb. Without it, %#v and %d would print the fields.
func (r Request) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// MarshalZerologObject logs the request without its token.
func (r Request) MarshalZerologObject(e *zerolog.Event) {
	e.Str("conn", r.Conn).Str("addr", r.RemoteAddr).Str("origin", r.Origin).Str("agent", r.UserAgent).
		Str("device", r.Device).Bool("renew", r.Renew)
}

// message returns the request as a NATS message on subject.
func (r Request) message(subject string) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Data = []byte(r.Token)
	set := func(key, value string) {
		if value = headerValue(value); value != "" {
			msg.Header.Set(key, value)
		}
	}
	set(headerConn, r.Conn)
	set(headerRemoteAddr, r.RemoteAddr)
	set(headerOrigin, r.Origin)
	set(headerUserAgent, r.UserAgent)
	set(headerDevice, r.Device)
	set(headerTrace, r.Traceparent)
	if r.Renew {
		msg.Header.Set(headerRenew, "true")
	}
	return msg
}

// requestOf is the inverse of message.
func requestOf(token []byte, h nats.Header) Request {
	return Request{
		Token:      string(token),
		Conn:       h.Get(headerConn),
		RemoteAddr: h.Get(headerRemoteAddr),
		Origin:     h.Get(headerOrigin),
		UserAgent:  h.Get(headerUserAgent),
		Device:     h.Get(headerDevice),
		Renew:      h.Get(headerRenew) == "true",

		Traceparent: h.Get(headerTrace),
	}
}

// headerValue makes any string one line. nats.go replaces CR and LF by spaces, but it passes NUL
// and other control characters and has no size limit.
func headerValue(s string) string {
	// Cut before the loop over runes, so that a client cannot make it expensive. Invalid bytes become
	// U+FFFD, which is longer, so cut again after it.
	s = clip(s, maxHeader)
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, s)
	return strings.TrimSpace(clip(s, maxHeader))
}

// clip returns the first n bytes of s, less if the cut would split a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := 0; back < utf8.UTFMax && back < n; back++ { // no rune is longer; then the bytes are invalid
		if utf8.RuneStart(s[n-back]) {
			return s[:n-back]
		}
	}
	return s[:n]
}
