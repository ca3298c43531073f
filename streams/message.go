package streams

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a notification. All are optional: a bare publish to a user's subject is a valid notification.
const (
	HeaderID          = "Tidings-Id"
	HeaderKind        = "Tidings-Kind"
	HeaderContentType = "Content-Type"
	HeaderTraceparent = "traceparent" // W3C trace context
)

// Message is a notification as the stream holds it.
type Message struct {
	Seq         uint64
	Subject     string
	Time        time.Time // when it was stored
	Expires     time.Time // by its own TTL; zero: when the stream's limits say; never: not even then
	ID          string    // of the publisher; may be empty
	Kind        string
	ContentType string
	Data        []byte
	header      nats.Header // for what is seldom asked
}

// Topic is the name of the topic that the message was published to; empty for a user's own.
func (m *Message) Topic() string {
	token, ok := strings.CutPrefix(m.Subject, TopicPrefix)
	if !ok {
		return ""
	}
	topic, _ := DecodeToken(token) // readers ask for encoded subjects only
	return topic
}

// newMessage reads what the publisher put into headers. Header is what nats.go makes of the publisher's block: nil, as if there were
// none, for one that it cannot read.
func newMessage(seq uint64, subject string, stored time.Time, header nats.Header, data []byte) Message {
	m := Message{Seq: seq, Subject: subject, Time: stored, Data: data}
	if len(header) == 0 {
		return m
	}
	m.header = header
	m.Kind = header.Get(HeaderKind)
	m.ContentType = header.Get(HeaderContentType)
	if m.ID = header.Get(HeaderID); m.ID == "" {
		m.ID = strings.TrimPrefix(header.Get(jetstream.MsgIDHeader), idScope(subject))
	}
	m.Expires = parseExpires(stored, header.Get(jetstream.MsgTTLHeader))
	return m
}

// idScope is what goes before a publisher's id in Nats-Msg-Id, since the server deduplicates stream-wide: "user.alice." or
// "topic.releases.".
func idScope(subject string) string {
	return strings.TrimPrefix(subject, "notify.") + "."
}

// never is when a message expires that its publisher exempts from the stream's MaxAge too.
var never = time.Unix(0, math.MaxInt64)

// parseExpires reads Nats-TTL as the server does: seconds, or a Go duration cut to seconds, or "never". Where it says nothing,
// or more than the time can hold, it is zero.
func parseExpires(stored time.Time, value string) time.Time {
	if strings.EqualFold(value, "never") {
		return never
	}
	ttl, err := time.ParseDuration(value)
	if err != nil {
		ttl, err = time.ParseDuration(value + "s")
	}
	expires := stored.Add(ttl.Truncate(time.Second))
	if err != nil || ttl < time.Second || !expires.Before(never) {
		return time.Time{}
	}
	return expires
}

// fromDirect reads an answer of $JS.API.DIRECT.GET, whose headers say where the message lay.
func fromDirect(seq uint64, msg *nats.Msg) (Message, error) {
	stored, err := time.Parse(time.RFC3339Nano, serverValue(msg.Header, jetstream.TimeStampHeaer))
	if err != nil {
		return Message{}, fmt.Errorf("direct get: bad %s: %w", jetstream.TimeStampHeaer, err)
	}
	return newMessage(seq, serverValue(msg.Header, jetstream.SubjectHeader), stored, msg.Header, msg.Data), nil
}

// serverValue is what the server said: it puts its headers behind those that the publisher may have set by the same name.
func serverValue(header nats.Header, name string) string {
	values := header.Values(name)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

func serverNumber(header nats.Header, name string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(serverValue(header, name), 10, 64)
	return n, err == nil
}
