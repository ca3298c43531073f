package streams

import "strings"

// ValidTraceparent says whether s is a W3C trace context header of which everything is understood: version 00, the id of a trace, that of
// a span, and flags, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01. Whatever else comes from strangers is to be ignored.
func ValidTraceparent(s string) bool {
	const length = 55
	if len(s) != length || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	trace, span, flags := s[3:35], s[36:52], s[53:]
	hex := func(c rune) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }
	some := func(c rune) bool { return c != '0' }
	for _, part := range []string{trace, span, flags} {
		if strings.ContainsFunc(part, func(c rune) bool { return !hex(c) }) {
			return false
		}
	}
	return strings.ContainsFunc(trace, some) && strings.ContainsFunc(span, some)
}

// Traceparent is the trace context that the publisher sent along; empty where there is none, or none that is valid.
func (m *Message) Traceparent() string {
	// Names of NATS headers differ by case, and HTTP libraries write this one in their own way.
	for _, name := range []string{HeaderTraceparent, "Traceparent"} {
		if value := m.header.Get(name); ValidTraceparent(value) {
			return value
		}
	}
	return ""
}
