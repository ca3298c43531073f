package wire

import "fmt"

// CloseCode is the status code of a WebSocket close frame. After 44xx the client must stop, after
// 45xx it should reconnect.
type CloseCode int

// The close codes of tidings.v1.
const (
	CloseBadFrame       CloseCode = 4400 // not a valid frame, or a frame that is not allowed at this point
	CloseUnauthorized   CloseCode = 4401 // the token is refused
	CloseForbidden      CloseCode = 4403 // the token is valid, but does not permit this
	CloseNoProtocol     CloseCode = 4406 // no common subprotocol
	CloseDisconnected   CloseCode = 4410 // the backend disconnected the user
	CloseTooLarge       CloseCode = 4413 // the client's frame is too large
	CloseInternal       CloseCode = 4500
	CloseLeaseExpired   CloseCode = 4501 // reconnect with a fresh token
	CloseUnavailable    CloseCode = 4503 // authentication or NATS unavailable
	CloseTimeout        CloseCode = 4508 // no auth frame, no answer to a ping, or a write that stalled
	CloseStreamReplaced CloseCode = 4510 // the epoch changed; the next connection gets a gap
	CloseDraining       CloseCode = 4512 // the gateway is stopping
	CloseTooMany        CloseCode = 4529 // too many connections
)

// Retry reports whether a client should reconnect after a close with this code. Unknown codes count
// by their range. Of the codes that RFC 6455 defines, those that blame the client's own frames stop
// the client.
func (c CloseCode) Retry() bool {
	switch {
	case c >= 4400 && c < 4500:
		return false
	case c == 1002, c == 1003, c == 1007, c == 1008, c == 1009:
		return false
	}
	return true
}

// String returns the code with its meaning, such as "4401 unauthorized".
func (c CloseCode) String() string {
	names := map[CloseCode]string{
		CloseBadFrame: "bad frame", CloseUnauthorized: "unauthorized", CloseForbidden: "forbidden",
		CloseNoProtocol: "no common protocol", CloseDisconnected: "disconnected", CloseTooLarge: "frame too large",
		CloseInternal: "internal error", CloseLeaseExpired: "lease expired", CloseUnavailable: "unavailable",
		CloseTimeout: "timeout", CloseStreamReplaced: "stream replaced", CloseDraining: "draining",
		CloseTooMany: "too many",
	}
	if name, ok := names[c]; ok {
		return fmt.Sprintf("%d %s", int(c), name)
	}
	return fmt.Sprint(int(c))
}
