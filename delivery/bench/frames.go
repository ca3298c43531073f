package bench

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// handle processes a frame. It detects the type by the first bytes, which the protocol allows, and parses only what it
// needs, because CPU time used here is not available to the server.
func (c *client) handle(frame []byte) error {
	kind, rest, _ := bytes.Cut(bytes.TrimPrefix(frame, []byte(`{"type":"`)), []byte(`"`))
	switch string(kind) {
	case "msg":
		return c.message(frame, seqOf(rest))
	case "hello":
		first := wire.Auth{Token: c.user}
		if last := c.last.Load(); c.epoch != "" && c.fleet.resume {
			first.After, first.Epoch, first.User = &last, c.epoch, c.user
		}
		return c.write(wire.Append(nil, first))
	case "ready":
		var ready wire.Ready
		if err := json.Unmarshal(frame, &ready); err != nil {
			return err
		}
		c.epoch = ready.Epoch
		c.last.Store(ready.After)
	case "gap":
		c.gaps++
	case "live":
		c.live = true
		c.advance(seqOf(rest))
	case "ping":
		c.advance(seqOf(rest))
		return c.write([]byte(`{"type":"pong"}`))
	}
	return nil
}

// seqOf parses the field seq, which is next in a msg, live or ping frame. It returns 0 if a ping frame has no such
// field.
func seqOf(rest []byte) (seq uint64) {
	digits, ok := bytes.CutPrefix(rest, []byte(`,"seq":`))
	for ; ok && len(digits) > 0 && '0' <= digits[0] && digits[0] <= '9'; digits = digits[1:] {
		seq = 10*seq + uint64(digits[0]-'0')
	}
	return seq
}

func (c *client) advance(seq uint64) { c.last.Store(max(c.last.Load(), seq)) }

// message records a msg frame, which ends with the data and a brace.
func (c *client) message(frame []byte, seq uint64) error {
	now := time.Now()
	if seq <= c.last.Load() {
		c.disorder++
	}
	c.advance(seq)
	if n, at, ours := readMessage(frame[max(0, len(frame)-1-size):len(frame)-1], c.fleet.id); ours && c.got.see(n) {
		if c.fleet.timed {
			c.latencies = append(c.latencies, now.Sub(at))
		}
		c.lastAt.Store(now.UnixNano())
		c.fleet.received.Add(1)
	}
	if c.fleet.acks != ackLikeLibrary {
		return nil
	}
	if c.unacked++; c.unacked < ackBatch && now.Sub(c.ackedAt) < ackEvery {
		return nil
	}
	c.unacked, c.ackedAt = 0, now
	return c.write(wire.Append(nil, wire.Ack{Seq: seq}))
}

func (c *client) write(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws.WriteMessage(websocket.TextMessage, frame)
}
