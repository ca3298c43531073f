package wire

import "fmt"

// CloseCode is the status of a WebSocket close frame. 44xx tell the client to stop, 45xx to come again.
type CloseCode int

// The close codes of tidings.v1.
const (
	CloseBadFrame       CloseCode = 4400 // not a frame, or not one that may come now
	CloseUnauthorized   CloseCode = 4401 // token refused
	CloseForbidden      CloseCode = 4403 // token good, but not for this
	CloseNoProtocol     CloseCode = 4406 // no common subprotocol
	CloseDisconnected   CloseCode = 4410 // disconnected by the backend
	CloseTooLarge       CloseCode = 4413 // client frame too large
	CloseInternal       CloseCode = 4500
	CloseLeaseExpired   CloseCode = 4501 // come again with a fresh token
	CloseUnavailable    CloseCode = 4503 // authentication or NATS unavailable
	CloseTimeout        CloseCode = 4508 // no auth frame, no answer to a ping, or a write that stalled
	CloseStreamReplaced CloseCode = 4510 // another epoch; the next connection is told by a gap
	CloseDraining       CloseCode = 4512 // the gateway is going away
	CloseTooMany        CloseCode = 4529 // too many connections
)

// Again says whether a client that was closed with the code should connect again. Codes it does not know go by their
// range; of those that RFC 6455 defines, the ones that blame the client's own frames stop.
func (c CloseCode) Again() bool {
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
