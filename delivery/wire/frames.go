package wire

import (
	"encoding/json"
	"time"
)

// Frame is one frame, sent by either side.
type Frame interface {
	// Type returns the value of the frame's field "type".
	Type() string
}

// Hello is the first frame on a connection, from the server.
type Hello struct {
	Protocol   string `json:"protocol"`    // Subprotocol
	AuthWithin int64  `json:"auth_within"` // milliseconds within which the client must send auth
}

// Auth is the client's first frame, sent once.
type Auth struct {
	Token  string `json:"token"`
	Device string `json:"device,omitempty"` // names a device with a position of its own; empty: the user's shared position
	// After starts the connection after this seq instead of the stored position. It does not move
	// the stored position. It counts only together with the Epoch and the User of the same
	// position: for another user it is ignored, for another epoch the server answers with a gap.
	After *uint64 `json:"after,omitempty"`
	Epoch string  `json:"epoch,omitempty"`
	User  string  `json:"user,omitempty"`
}

// Ready tells the client that it is admitted.
type Ready struct {
	User      string `json:"user"`
	Conn      string `json:"conn"` // identifies the connection in the gateway's logs
	Epoch     string `json:"epoch"`
	After     uint64 `json:"after"`                // the connection starts after this seq; it becomes the client's position
	Unread    uint64 `json:"unread"`               // messages on the user's own subject after the stored position
	Ping      int64  `json:"ping"`                 // milliseconds between the server's pings
	ExpiresIn int64  `json:"expires_in,omitempty"` // milliseconds until the lease ends; 0: it does not end
}

// Reasons of a Gap.
const (
	GapExpired     = "expired"      // the connection starts before the stream's first message
	GapLimit       = "limit"        // the user's subject is at its limit, and its oldest message is after the start
	GapStreamReset = "stream_reset" // the epoch changed, or the client's position is past the end of the stream
	GapPurged      = "purged"       // messages were purged while the client was connected
)

// Gap reports that messages after After and before Next may be missing. The client answers it with
// Pong.
type Gap struct {
	After uint64 `json:"after"`
	// Next is the seq of the first message that follows, or the end of the range that may be
	// missing if a message lies before that end or none follows. 0: nothing follows yet.
	Next   uint64 `json:"next,omitempty"`
	Reason string `json:"reason"`
}

// Msg is a notification. Exactly one of Data and DataB64 is present; AppendMsg documents which, and
// the maximum size.
type Msg struct {
	Seq     uint64          `json:"seq"`
	ID      string          `json:"id,omitempty"`
	Kind    string          `json:"kind,omitempty"`
	Time    time.Time       `json:"time"` // when the stream stored it
	Topic   string          `json:"topic,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	DataB64 []byte          `json:"data_b64,omitempty"`
}

// Live is sent exactly once on a connection: all messages up to Seq have been sent. They include
// everything that the stream held when the client authenticated.
type Live struct {
	Seq uint64 `json:"seq"`
}

// Ack acknowledges everything up to Seq. It is cumulative and idempotent.
type Ack struct {
	Seq uint64 `json:"seq"`
}

// Acked reports that another connection with the same position has acknowledged messages up to Seq.
type Acked struct {
	Seq    uint64 `json:"seq"`
	Unread uint64 `json:"unread"`
}

// Ping asks the client to show that it is alive; any frame does. Seq is present only while the
// client is caught up: no message for it up to Seq is outstanding.
type Ping struct {
	Seq uint64 `json:"seq,omitempty"`
}

// Pong answers Ping and Gap. Any other frame answers them as well, except that an Ack of a seq
// before a gap does not answer the gap.
type Pong struct{}

// Renew extends the lease with a fresh token of the same user, before the lease ends.
type Renew struct {
	Token string `json:"token"`
}

// Renewed confirms a Renew. ExpiresIn is in milliseconds; 0: the lease does not end any more.
type Renewed struct {
	ExpiresIn int64 `json:"expires_in,omitempty"`
}

// Expiring announces that the lease ends in In milliseconds.
type Expiring struct {
	In int64 `json:"in"`
}

// Codes of an Error.
const (
	ErrorBadAck           = "bad_ack"           // seq is larger than ready.after and the seq of the last msg, live and ping
	ErrorRenewUnavailable = "renew_unavailable" // the fresh token could not be checked; try again
)

// Error reports a frame that was wrong and that the server ignored. The connection stays open.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Goaway precedes a close. RetryAfter is in milliseconds and already randomized for this client; 0:
// the server asks for no delay.
type Goaway struct {
	Code       CloseCode `json:"code"`
	Reason     string    `json:"reason"`
	RetryAfter int64     `json:"retry_after,omitempty"`
}

// Type implements Frame.
func (Hello) Type() string { return "hello" }

// Type implements Frame.
func (Auth) Type() string { return "auth" }

// Type implements Frame.
func (Ready) Type() string { return "ready" }

// Type implements Frame.
func (Gap) Type() string { return "gap" }

// Type implements Frame.
func (Msg) Type() string { return "msg" }

// Type implements Frame.
func (Live) Type() string { return "live" }

// Type implements Frame.
func (Ack) Type() string { return "ack" }

// Type implements Frame.
func (Acked) Type() string { return "acked" }

// Type implements Frame.
func (Ping) Type() string { return "ping" }

// Type implements Frame.
func (Pong) Type() string { return "pong" }

// Type implements Frame.
func (Renew) Type() string { return "renew" }

// Type implements Frame.
func (Renewed) Type() string { return "renewed" }

// Type implements Frame.
func (Expiring) Type() string { return "expiring" }

// Type implements Frame.
func (Error) Type() string { return "error" }

// Type implements Frame.
func (Goaway) Type() string { return "goaway" }
