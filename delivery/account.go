package delivery

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/delivery/wire"
)

// account is what is noted of a session for its line in the log, and for the metrics.
type account struct {
	state    state
	gaps     uint8  // told, a bit for each of gapReasons
	renewals uint32 // owned by the reader
	after    uint64 // where it started
	unread   uint64 // of the user then
	replayed uint64 // of delivered, before live
	counted  uint64 // of delivered, flushed, and so in the metrics
	bytes    uint64 // flushed

	authTook time.Duration
	readyAt  time.Duration // since it began
	liveAt   time.Duration // likewise
	oldest   int64         // when the oldest message that is held, since live, was stored, in ns since 1970; 0: none is
}

// state is how far a session has come; stateNames has the names.
type state uint8

const (
	authenticating state = iota
	replaying
	live
)

// Who ended a connection.
const (
	byClient  = "client"
	byGateway = "gateway"
	byNetwork = "network"
)

// lineName tells the lines apart for people.
func (s *session) lineName() string {
	if _, is := s.line.(*events); is {
		return lineNames[1]
	}
	return lineNames[0]
}

func (s *session) opened() {
	s.g.metrics.opened.WithLabelValues(s.lineName()).Inc()
	s.g.metrics.connections.WithLabelValues(stateNames[s.state], s.lineName()).Inc()
}

func (s *session) becomes(next state) {
	s.g.metrics.connections.WithLabelValues(stateNames[s.state], s.lineName()).Dec()
	s.state = next
	s.g.metrics.connections.WithLabelValues(stateNames[s.state], s.lineName()).Inc()
}

// noteReady, noteLive and noteGap are told when these frames are written.
func (s *session) noteReady(f wire.Ready) {
	s.after, s.unread, s.readyAt = f.After, f.Unread, time.Since(s.began)
	s.becomes(replaying)
}

func (s *session) noteLive() {
	s.replayed, s.liveAt = s.delivered, time.Since(s.began)
	s.g.metrics.replaySize.Observe(float64(s.replayed))
	s.g.metrics.replayTook.Observe((s.liveAt - s.readyAt).Seconds())
	s.becomes(live)
}

func (s *session) noteGap(reason string) {
	for i, known := range gapReasons {
		if reason == known {
			s.gaps |= 1 << i
		}
	}
	s.g.metrics.gaps.WithLabelValues(reason).Inc()
}

// noteFlush counts what was sent. One look at the clock for each write, and not for each message, is what that is worth.
func (s *session) noteFlush(bytes int) {
	s.bytes += uint64(bytes)
	n := s.delivered - s.counted
	if n == 0 {
		return
	}
	s.counted = s.delivered
	var now uint64 // live
	if s.state == live {
		now = min(n, s.delivered-s.replayed)
		s.g.metrics.delivered.Add(float64(now))
	}
	if n > now {
		s.g.metrics.replayed.Add(float64(n - now))
	}
	if s.oldest != 0 {
		s.g.metrics.latency.Observe(max(0, time.Duration(time.Now().UnixNano()-s.oldest).Seconds()))
		s.oldest = 0
	}
}

// noteDropped takes back what was held and will not be sent.
func (s *session) noteDropped() { s.delivered = s.counted }

// ended counts the end, and writes the line that says what became of this client. Its fields are in MONITORING.md, in this order.
func (s *session) ended(code int, by string, cause error) {
	s.g.metrics.connections.WithLabelValues(stateNames[s.state], s.lineName()).Dec()
	s.g.metrics.closed.WithLabelValues(codeLabel(code), by).Inc()
	if s.state != live || s.replayed > s.counted {
		s.replayed = s.counted
	}
	const most = 200 // bytes of what a client says of itself
	gaps := zerolog.Arr()
	for i, reason := range gapReasons {
		if s.gaps&(1<<i) != 0 {
			gaps.Str(reason)
		}
	}
	log := &s.g.log
	if s.state == authenticating {
		log = &s.g.strangerLog
	}
	log.Info().
		Str("conn", s.request.Conn).Str("remote", s.request.RemoteAddr).
		Str("origin", clip(s.request.Origin, most)).Str("user_agent", clip(s.request.UserAgent, most)).
		Str("line", s.lineName()).Str("user", s.cursor.User).Str("device", s.cursor.Device).
		Int("code", code).Str("by", by).AnErr("cause", cause).Str("state", stateNames[s.state]).
		Dur("lasted_ms", time.Since(s.began)).Dur("auth_ms", s.authTook).Dur("ready_ms", s.readyAt).Dur("live_ms", s.liveAt).
		Uint64("after", s.after).Uint64("unread", s.unread).Uint64("replayed", s.replayed).Uint64("delivered", s.counted).
		Uint64("sent", s.sent.Load()).Uint64("acked", s.acked.Load()).Array("gaps", gaps).Uint32("renewals", s.renewals).
		Uint64("bytes", s.bytes).Msg("closed")
}

// kept is a header without what would be held beyond so many bytes for as long as the connection lasts.
func kept(header string) string {
	const most = 512
	return strings.Clone(clip(header, most))
}

// clip cuts a text to so many bytes, between characters.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
