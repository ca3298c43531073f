// Package wire is the reference for the client protocol tidings.v1: its frames, their encoding and
// the close codes.
//
// A connection is a WebSocket at /v1/ws. Each text message is one JSON object, called a frame. Its
// field "type" says what kind of frame it is. Both sides ignore unknown types and unknown fields,
// so that either may be newer than the other. A frame in which a field occurs twice, or a known
// field has other capital letters, is invalid.
//
//	server → client   hello
//	client → server   auth                    the first frame, sent once
//	server → client   ready, then gap if messages may be missing
//	server → client   msg …                   the messages that the client missed, in stream order
//	server → client   live                    once: everything stored when the client authenticated has been sent
//	server → client   msg …                   new messages as they are stored
//	client → server   ack …                   cumulative
//
// A position is a pair (epoch, seq). On one connection seq strictly increases and the epoch never
// changes; a repeat can come only on a new connection. A client remembers its position and drops
// messages with a seq up to it. On each connection it first sets its position to the one in ready,
// even if that is lower in the same epoch. A lower one means that an older copy of the stream was
// restored, and its next messages reuse numbers that the client has seen.
//
// Apart from package strict, the package imports nothing of Tidings, so that a client needs neither
// NATS nor the gateway.
package wire

// Subprotocol is the WebSocket subprotocol of the server. The server assumes it for a client that
// offers none.
const Subprotocol = "tidings.v1"

// Path is the URL path at which the gateway serves WebSocket clients.
const Path = "/v1/ws"
