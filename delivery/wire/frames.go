package wire

import (
	"encoding/json"
	"time"
)

// Frame is one frame of either side.
type Frame interface {
	// Type is the value of the frame's field "type".
	Type() string
}

// Hello is the first frame on a connection, from the server.
type Hello struct {
	Protocol   string `json:"protocol"`    // Subprotocol
	AuthWithin int64  `json:"auth_within"` // milliseconds in which the auth frame must come
}

// Auth is the first frame of the client, sent once.
type Auth struct {
	Token  string `json:"token"`
	Device string `json:"device,omitempty"` // names a cursor of its own; absent: the user's
	// After resumes behind this seq instead of behind the stored position, which it does not move. It counts only with
	// the Epoch and the User that it came with; otherwise it is ignored (another user) or answered by a gap.
	After *uint64 `json:"after,omitempty"`
	Epoch string  `json:"epoch,omitempty"`
	User  string  `json:"user,omitempty"`
}

// Ready admits the client.
type Ready struct {
	User      string `json:"user"`
	Conn      string `json:"conn"` // names the connection in the gateway's logs
	Epoch     string `json:"epoch"`
	After     uint64 `json:"after"`                // where this connection starts; the client's position from now on
	Unread    uint64 `json:"unread"`               // waiting on the user's own subject behind the stored position
	Ping      int64  `json:"ping"`                 // milliseconds between the server's pings
	ExpiresIn int64  `json:"expires_in,omitempty"` // milliseconds to the lease's end; absent: none
}

// Reasons of a Gap.
const (
	GapExpired     = "expired"      // the start lies before the stream's first message
	GapLimit       = "limit"        // the user's subject is at its limit and its oldest message lies past the start
	GapStreamReset = "stream_reset" // the epoch changed, or the client's position lies past the stream's end
	GapPurged      = "purged"       // purged while connected
)

// Gap reports that what lies between After and Next may be gone. A Pong answers it.
type Gap struct {
	After  uint64 `json:"after"`
	Next   uint64 `json:"next,omitempty"` // the first message that follows, or the end of what may be gone if that lies further back; absent: nothing follows yet
	Reason string `json:"reason"`
}

// Msg is a notification. Exactly one of Data and DataB64 is there. AppendMsg says which, and how large it can be.
type Msg struct {
	Seq     uint64          `json:"seq"`
	ID      string          `json:"id,omitempty"`
	Kind    string          `json:"kind,omitempty"`
	Time    time.Time       `json:"time"` // when the stream stored it
	Topic   string          `json:"topic,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	DataB64 []byte          `json:"data_b64,omitempty"`
}

// Live comes exactly once: everything up to Seq, at least all that the stream held when the connection authenticated,
// has been sent.
type Live struct {
	Seq uint64 `json:"seq"`
}

// Ack acknowledges everything up to Seq. It is cumulative and idempotent.
type Ack struct {
	Seq uint64 `json:"seq"`
}

// Acked tells that another connection with the same position acknowledged.
type Acked struct {
	Seq    uint64 `json:"seq"`
	Unread uint64 `json:"unread"`
}

// Ping asks the client for a sign of life; any frame is one. Seq is there only while the client is caught up: nothing of
// its own up to there is outstanding.
type Ping struct {
	Seq uint64 `json:"seq,omitempty"`
}

// Pong answers a Ping, and a Gap: any frame does but an Ack of what lies before it.
type Pong struct{}

// Renew offers a fresh token of the same user before the lease ends.
type Renew struct {
	Token string `json:"token"`
}

// Renewed accepts it. ExpiresIn is in milliseconds; absent: the lease has no end any more.
type Renewed struct {
	ExpiresIn int64 `json:"expires_in,omitempty"`
}

// Expiring announces the end of the lease, In milliseconds from now.
type Expiring struct {
	In int64 `json:"in"`
}

// Codes of an Error.
const (
	ErrorBadAck           = "bad_ack"           // beyond the largest of ready.after and the last msg, live and ping
	ErrorRenewUnavailable = "renew_unavailable" // nobody could say whether the fresh token is good; try again
)

// Error tells of something that was wrong and ignored; the connection goes on.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Goaway precedes a close. RetryAfter, in milliseconds, is already jittered for this client.
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
