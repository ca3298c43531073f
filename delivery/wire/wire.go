// Package wire is the reference of the client protocol tidings.v1: its frames, their encoding and the close codes.
//
// A connection is a WebSocket at /v1/ws. Each text message is one JSON object, a frame, told apart by its field "type".
// Unknown types and unknown fields are ignored, so that either side may be newer than the other. A field that is there twice, or a known
// one in other capital letters, makes a frame a bad one.
//
//	server → client   hello
//	client → server   auth                    first, and once
//	server → client   ready, then perhaps gap
//	server → client   msg …                   what was missed, in stream order
//	server → client   live                    once: all that was stored when the client authenticated has been sent
//	server → client   msg …                   as they are stored
//	client → server   ack …                   cumulative
//
// A position is a pair (epoch, seq). Within a connection seq strictly increases and the epoch never changes; a repeat can
// only come on a new connection. A client remembers its position and drops messages with a seq up to it. On each connection
// it first takes over the position in ready, even if that is further back within the same epoch: an older copy of the stream
// was put back then, and its next messages reuse numbers that the client knows.
//
// The package imports nothing of Tidings, so that a client needs neither NATS nor the gateway.
package wire

// Subprotocol is the WebSocket subprotocol that the server speaks. A client that offers none is taken to speak it.
const Subprotocol = "tidings.v1"

// Path is where the gateway serves WebSocket clients.
const Path = "/v1/ws"
