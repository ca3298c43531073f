package delivery_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// What a stranger sends who is greeted, or has got in, and how that ends: by a close code, or 0 where TCP just ends. -1: it does not, and
// the client is served as before. (RFC 6455, 5 to 8, and the protocol's own codes.)
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) {
		c.delivery.AuthWithin = 2 * time.Second
		c.delivery.Ping, c.delivery.PongWithin = time.Second, time.Second
	})
	const goesOn = -1
	auth := string(wire.Append(nil, wire.Auth{Token: "alice"}))
	pong := `{"type":"pong"}`
	padded := func(bytes int) string {
		return `{"type":"x","x":"` + strings.Repeat("x", bytes-len(`{"type":"x","x":""}`)) + `"}`
	}
	deep := func(levels int) string {
		return `{"type":"x","x":` + strings.Repeat("[", levels) + strings.Repeat("]", levels) + `}`
	}
	cases := map[string]struct {
		sent []byte
		code int
	}{
		"no mask":                          {[]byte("\x81\x0f" + pong), 1002},
		"no mask, and length 0":            {[]byte("\x81\x00"), 1002},
		"RSV1":                             {frame(0xc1, []byte(pong)), 1002},
		"RSV2":                             {frame(0xa1, []byte(pong)), 1002},
		"RSV3":                             {frame(0x91, []byte(pong)), 1002},
		"RSV1 in a continuation":           {append(frame(0x01, []byte("{")), frame(0xc0, []byte("}"))...), 1002},
		"RSV1 in a ping":                   {frame(0xc9, nil), 1002},
		"a ping in fragments":              {frame(0x09, []byte("x")), 1002},
		"a close in fragments":             {frame(0x08, []byte("\x03\xe8")), 1002},
		"a ping of 126 bytes":              {frame(0x89, make([]byte, 126)), 1002},
		"a pong of 64 KiB":                 {frame(0x8a, make([]byte, 64<<10)), 1002},
		"a close of 126 bytes":             {closeFrame(1000, strings.Repeat("x", 124)), 1002},
		"a ping of 125 bytes":              {frame(0x89, make([]byte, 125)), goesOn},
		"a pong that nobody asked for":     {frame(0x8a, []byte("x")), goesOn},
		"close without a code":             {frame(0x88, nil), 1005},
		"close with half a code":           {frame(0x88, []byte{3}), 1005},
		"close with a reason not in UTF-8": {closeFrame(1000, "\xff"), 1002},
		"a close, and more":                {append(closeFrame(1000, "bye"), text(pong)...), 1000},
		"a continuation of nothing":        {frame(0x80, []byte(pong)), 1002},
		"a message within another":         {append(frame(0x01, []byte("{")), text(pong)...), 1002},
		"a binary within a text":           {append(frame(0x01, []byte("{")), frame(0x82, nil)...), 1002},
		"pings between fragments": {bytes.Join([][]byte{
			frame(0x01, []byte(pong[:5])), frame(0x89, []byte("a")), frame(0x00, nil), frame(0x8a, nil), frame(0x80, []byte(pong[5:]))}, nil), goesOn},
		"a close between fragments":        {append(frame(0x01, []byte("{")), closeFrame(1000, "")...), 1000},
		"binary":                           {frame(0x82, []byte(pong)), 4400},
		"an empty message":                 {text(""), 4400},
		"16 KiB in one frame":              {text(padded(16 << 10)), goesOn},
		"a byte more":                      {text(padded(16<<10 + 1)), 4413},
		"16 KiB byte by byte":              {fragments(padded(16<<10), 1), goesOn},
		"a byte more, byte by byte":        {fragments(padded(16<<10+1), 1), 4413},
		"1 MiB, half a frame each":         {fragments(padded(1<<20), 8<<10), 4413},
		"a GiB is announced":               {append(announced(0x81, 1<<30), make([]byte, 32<<10)...), 4413},
		"the largest length":               {append(announced(0x81, 1<<63-1), make([]byte, 32<<10)...), 4413},
		"a negative length":                {append(announced(0x81, 1<<63), make([]byte, 32<<10)...), 1002},
		"all bits of a length":             {announced(0x81, 1<<64-1), 1002},
		"a length in more bytes than need": {append([]byte("\x81\xff\x00\x00\x00\x00\x00\x00\x00\x0fmask"), text(pong)[6:]...), goesOn},
		"invalid UTF-8":                    {text("{\"type\":\"x\",\"x\":\"\xff\"}"), 1007},
		"half a character at the end":      {text("{\"type\":\"x\",\"x\":\"\xc3"), 1007},
		"invalid UTF-8 over fragments":     {fragments("{\"type\":\"x\",\"x\":\"\xc3(\"}", 1), 1007},
		"a surrogate in UTF-8":             {text("{\"type\":\"x\",\"x\":\"\xed\xa0\x80\"}"), 1007},
		"a character over fragments":       {fragments(`{"type":"x","x":"é😀"}`, 1), goesOn},
		"nested 8,000 times":               {text(deep(8000)), goesOn},
		"nested and never closed":          {text(`{"type":"x","x":` + strings.Repeat("[", 16_000)), 4400},
		"a number without end":             {text(`{"type":"ack","seq":1` + strings.Repeat("0", 16_000) + `}`), 4400},
		"a huge exponent":                  {text(`{"type":"ack","seq":1e999999999}`), 4400},
		"fields twice":                     {text(`{"type":"auth","type":"pong","type":"x"}`), 4400},
		"NUL":                              {text("\x00"), 4400},
	}
	for opcode := range byte(16) {
		if opcode >= 3 && opcode <= 7 || opcode >= 11 {
			cases[fmt.Sprintf("opcode %d", opcode)] = struct {
				sent []byte
				code int
			}{frame(0x80|opcode, []byte("x")), 1002}
		}
	}
	for code, answer := range map[uint16]int{
		0: 1002, 999: 1002, 1004: 1002, 1005: 1002, 1006: 1002, 1015: 1002, 1016: 1002, 2000: 1002, 2999: 1002, 5000: 1002, 65535: 1002,
		1000: 1000, 1001: 1001, 1011: 1011, 3000: 3000, 4000: 4000, 4999: 4999,
	} {
		cases[fmt.Sprintf("close code %d", code)] = struct {
			sent []byte
			code int
		}{closeFrame(code, ""), answer}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, token := range []string{"alice", ""} {
				s := n.raw(t, token)
				s.send(c.sent)
				want := c.code
				if want == goesOn {
					if token == "" {
						continue // a first frame that is not auth is another test's
					}
					want = 1000
					s.send(frame(0x89, []byte("still there")), closeFrame(1000, ""))
				}
				if code, pongs, err := s.ends(); err != nil || code != want || c.code == goesOn && pongs == 0 {
					t.Errorf("token %q: ended with %d after %d pongs (%v), want %d", token, code, pongs, err, want)
				}
			}
		})
	}
	t.Run("auth in fragments", func(t *testing.T) {
		for _, size := range []int{1, 7, len(auth) - 1} {
			s := n.raw(t, "")
			s.send(fragments(auth, size))
			s.wants("ready")
			s.wants("live")
		}
	})
	n.well(t)
}

// well says that a good client is served.
func (n *node) well(t *testing.T) {
	t.Helper()
	p, _ := n.live(t, "carol")
	seq := n.to(t, "carol", "x")
	if m := await[wire.Msg](p); m.Seq != seq {
		t.Errorf("%+v, want %d", m, seq)
	}
}
