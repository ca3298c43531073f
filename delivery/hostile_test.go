package delivery_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// stranger is a client over bare TCP, which sends what no library would.
type stranger struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// upgrade is a handshake that is in order.
var upgrade = []string{
	"GET " + wire.Path + " HTTP/1.1", "Host: tidings.example", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
}

// request is the handshake with one line after the other replaced by what comes behind it; in place of "" the latter is added.
func request(changes ...string) string {
	lines := slices.Clone(upgrade)
	for i := 0; i < len(changes); i += 2 {
		if at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, changes[i]) }); changes[i] != "" {
			lines[at] = changes[i+1]
		} else {
			lines = append(lines, changes[i+1])
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func (n *node) stranger(t *testing.T) *stranger {
	t.Helper()
	conn, err := net.Dial("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &stranger{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// raw is one that is connected and greeted; with a token it is live.
func (n *node) raw(t *testing.T, token string) *stranger {
	t.Helper()
	s := n.stranger(t)
	s.send([]byte(request()))
	if response := s.response(); response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response.Status)
	}
	s.wants("hello")
	if token != "" {
		s.send(text(string(wire.Append(nil, wire.Auth{Token: token}))))
		s.wants("ready")
		s.wants("live")
	}
	return s
}

// send writes. That the gateway has ended the connection meanwhile is for whoever reads.
func (s *stranger) send(chunks ...[]byte) { _, _ = s.conn.Write(bytes.Join(chunks, nil)) }

func (s *stranger) response() *http.Response {
	s.t.Helper()
	response, err := http.ReadResponse(s.r, &http.Request{Method: http.MethodGet})
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		_ = response.Body.Close()
	}
	return response
}

// next reads a frame of the gateway's, which are whole and without a mask.
func (s *stranger) next() (opcode byte, payload []byte, err error) {
	head := make([]byte, 2, 10)
	if _, err := io.ReadFull(s.r, head); err != nil {
		return 0, nil, err
	}
	size, more := uint64(head[1]), map[byte]int{126: 2, 127: 8}[head[1]]
	if more > 0 {
		if _, err := io.ReadFull(s.r, head[2:2+more]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(append(make([]byte, 8-more), head[2:2+more]...))
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 != 0 || size > 1<<20 {
		return 0, nil, fmt.Errorf("the gateway sent a frame that begins with %x", head)
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(s.r, payload)
	return head[0] & 0xf, payload, err
}

// wants reads a frame of this type.
func (s *stranger) wants(kind string) {
	s.t.Helper()
	opcode, payload, err := s.next()
	if err != nil || opcode != websocket.TextMessage || !bytes.HasPrefix(payload, []byte(`{"type":"`+kind+`"`)) {
		s.t.Fatalf("got %d %q %v, want %s", opcode, payload, err, kind)
	}
}

// ends is how the gateway ends the connection: by a close code, or 0 where TCP just ends. What it sends before is skipped, but for pongs,
// which are counted.
func (s *stranger) ends() (code, pongs int, err error) {
	closed := 0
	for {
		opcode, payload, err := s.next()
		var network net.Error
		switch {
		case errors.As(err, &network) && network.Timeout():
			return 0, pongs, err
		case err != nil:
			return closed, pongs, nil
		case opcode == websocket.PongMessage:
			pongs++
		case opcode == websocket.CloseMessage && len(payload) < 2:
			closed = websocket.CloseNoStatusReceived
		case opcode == websocket.CloseMessage:
			closed = int(binary.BigEndian.Uint16(payload))
		}
	}
}

// frame is one of a client's, masked.
func frame(head byte, payload []byte) []byte {
	f := announced(head, uint64(len(payload)))
	mask := f[len(f)-4:]
	for i, c := range payload {
		f = append(f, c^mask[i%4])
	}
	return f
}

// announced is the head of a frame of that length, in as few bytes as can be.
func announced(head byte, size uint64) []byte {
	f := []byte{head}
	switch {
	case size < 126:
		f = append(f, 0x80|byte(size))
	case size < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(size))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), size)
	}
	return append(f, "mask"...)
}

func text(s string) []byte { return frame(0x81, []byte(s)) }

// fragments is a text message in pieces of so many bytes.
func fragments(s string, size int) []byte {
	var all []byte
	for i, piece := range slices.Collect(slices.Chunk([]byte(s), size)) {
		head := byte(0)
		if i == 0 {
			head = websocket.TextMessage
		}
		if (i+1)*size >= len(s) {
			head |= 0x80
		}
		all = append(all, frame(head, piece)...)
	}
	return all
}

func closeFrame(code uint16, reason string) []byte {
	return frame(0x88, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}
