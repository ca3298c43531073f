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

// Headers of a question. The payload is the token and nothing else.
const (
	headerConn       = "Tidings-Conn"
	headerRemoteAddr = "Tidings-Remote-Addr"
	headerOrigin     = "Tidings-Origin"
	headerUserAgent  = "Tidings-User-Agent"
	headerDevice     = "Tidings-Device"
	headerRenew      = "Tidings-Renew"
	headerTrace      = "traceparent" // W3C trace context
)

// maxHeader bounds each header's value in bytes: Origin and User-Agent come from strangers.
const maxHeader = 512

// Request is one question: whose token is this?
//
// Token is a secret. A Request leaves it out of everything it prints: fmt, zerolog, JSON. What remains is %p, which
// vet forbids here, and a Request in an unexported field of another struct: fmt calls no methods there.
type Request struct {
	// Token is exactly what the client sent: any bytes, also none.
	Token string `json:"-"`
	// Conn names the connection in the gateway's log.
	Conn string `json:"conn,omitempty"`
	// RemoteAddr, Origin and UserAgent are the client's, as the gateway saw them; hints, not proof. Over NATS
	// these and Device arrive on one line, without control characters, at most 512 bytes of valid UTF-8 each.
	RemoteAddr string `json:"remote_addr,omitempty"`
	Origin     string `json:"origin,omitempty"`
	UserAgent  string `json:"user_agent,omitempty"`
	// Device is the cursor the client asked for; empty: the user's own.
	Device string `json:"device,omitempty"`
	// Renew: the connection was admitted before and wants to stay.
	Renew bool `json:"renew,omitempty"`
	// Traceparent is the trace context (W3C) of a gateway that traces, for a backend that does.
	Traceparent string `json:"traceparent,omitempty"`
}

// String shows the request without its token.
func (r Request) String() string {
	return fmt.Sprintf("auth request{conn:%q addr:%q origin:%q agent:%q device:%q renew:%t}",
		r.Conn, r.RemoteAddr, r.Origin, r.UserAgent, r.Device, r.Renew)
}

// Format writes what String returns, whatever the verb: %#v and %d would otherwise reach for the fields.
func (r Request) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// MarshalZerologObject logs the request without its token.
func (r Request) MarshalZerologObject(e *zerolog.Event) {
	e.Str("conn", r.Conn).Str("addr", r.RemoteAddr).Str("origin", r.Origin).Str("agent", r.UserAgent).
		Str("device", r.Device).Bool("renew", r.Renew)
}

// message is the request as it is asked on subject.
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

// requestOf is the way back from message.
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

// headerValue makes one line of any string. nats.go turns CR and LF into spaces by itself, but lets NUL and other
// control characters through, and bounds nothing.
func headerValue(s string) string {
	// Cut before the loop over runes, which would otherwise cost whatever the stranger likes; invalid bytes become
	// U+FFFD, which is longer, hence cut again.
	s = clip(s, maxHeader)
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, s)
	return strings.TrimSpace(clip(s, maxHeader))
}

// clip returns at most the first n bytes of s and cuts no rune in two.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := 0; back < utf8.UTFMax && back < n; back++ { // further back is no rune, only invalid bytes
		if utf8.RuneStart(s[n-back]) {
			return s[:n-back]
		}
	}
	return s[:n]
}
