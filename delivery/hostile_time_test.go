package delivery_test

import (
	"cmp"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// What a stranger begins and does not end is ended by a deadline, however busy it is meanwhile: what counts is a frame of the protocol.
func TestHostileFramesWithoutEnd(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) {
		c.delivery.AuthWithin = 300 * time.Millisecond
		c.delivery.Ping, c.delivery.PongWithin, c.delivery.WriteWithin = 150*time.Millisecond, 150*time.Millisecond, 300*time.Millisecond
	})
	empty := strings.Repeat(string(frame(0x00, nil)), 64)
	for name, c := range map[string]struct {
		first, forever string
		stranger       int // how one ends who has not authenticated; 0: as others
	}{
		"silence":                         {"", "", 0},
		"half a head":                     {"\x81", "", 0},
		"half a length":                   {"\x81\xff\x00\x00", "", 0},
		"half a mask":                     {"\x81\x81ma", "", 0},
		"a length, and nothing of it":     {string(announced(0x81, 100)), "", 0},
		"a length, and half of it":        {string(announced(0x81, 10<<10)) + strings.Repeat("x", 5<<10), "", 0},
		"a control frame, and half of it": {string(announced(0x89, 100)) + "x", "", 0},
		"a fragment, and no more":         {string(frame(0x01, []byte("{"))), "", 0},
		"empty fragments":                 {string(frame(0x01, nil)), empty, 0},
		"empty fragments and pings":       {string(frame(0x01, nil)), empty + string(frame(0x89, nil)), 4400},
		"pings":                           {"", strings.Repeat(string(frame(0x89, []byte("x"))), 8), 4400},
		"pongs":                           {"", strings.Repeat(string(frame(0x8a, nil)), 8), 4400},
	} {
		for _, token := range []string{"", "alice"} {
			t.Run(name+" of "+token, func(t *testing.T) {
				t.Parallel()
				s := n.raw(t, token)
				s.send([]byte(c.first))
				ended := make(chan struct{})
				defer func() { <-ended }()
				go func() {
					defer close(ended)
					for ; c.forever != ""; time.Sleep(time.Millisecond) { // busy, but others test beside it
						if _, err := s.conn.Write([]byte(c.forever)); err != nil {
							return
						}
					}
				}()
				want := 4508
				if token == "" {
					want = cmp.Or(c.stranger, want)
				}
				if code, _, err := s.ends(); code != want || err != nil {
					t.Errorf("ended with %d (%v), want %d", code, err, want)
				}
				_ = s.conn.Close()
			})
		}
	}
	// The same of one who does not read what comes back.
	for _, token := range []string{"", "alice"} {
		t.Run("pings, and pongs are not read, of "+token, func(t *testing.T) {
			t.Parallel()
			s := n.raw(t, token)
			pings := []byte(strings.Repeat(string(frame(0x89, make([]byte, 125))), 256))
			for began := time.Now(); ; {
				if _, err := s.conn.Write(pings); err != nil {
					if time.Since(began) >= patience {
						t.Error("not ended:", err)
					}
					return
				}
			}
		})
	}
}

// Who goes away in the midst of something is gone: what served it ends, as the check for leaks at the end of all tests sees.
func TestHostileClientsThatGoAway(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	for _, half := range []string{"", "G", request()[:20], request()[:len(request())-2]} {
		s := n.stranger(t)
		s.send([]byte(half))
		_ = s.conn.Close()
	}
	for _, half := range []string{"\x81", string(announced(0x81, 10)) + "x", string(frame(0x01, []byte("{"))), string(closeFrame(1000, "bye"))[:5]} {
		for _, token := range []string{"", "alice"} {
			s := n.raw(t, token)
			s.send([]byte(half))
			_ = s.conn.Close()
		}
	}
	n.well(t)
	for end := time.Now().Add(patience); n.gateway.Connections("alice") > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are left", n.gateway.Connections("alice"))
		}
	}
}

// Handshakes that are in order or not, with the status that comes back; 0: TCP just ends.
func TestHostileHandshakes(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	for name, c := range map[string]struct {
		sent   string
		status int
	}{
		"as it should be":         {request(), 101},
		"absolute form":           {request("GET ", "GET http://tidings.example/v1/ws HTTP/1.1"), 101},
		"many tokens":             {request("Connection", "Connection: keep-alive, Upgrade", "Upgrade", "Upgrade: h2c, WebSocket"), 101},
		"compression is offered":  {request("", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"), 101},
		"a thousand headers":      {request("", strings.TrimSuffix(strings.Repeat("X-Pad: x\r\n", 1000), "\r\n")), 101},
		"2 MiB of headers":        {request("", "X-Pad: "+strings.Repeat("x", 2<<20)), 431},
		"version 8":               {request("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 400},
		"no version":              {request("Sec-WebSocket-Version", "X-Pad: x"), 400},
		"no key":                  {request("Sec-WebSocket-Key", "X-Pad: x"), 400},
		"a short key":             {request("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), 400},
		"a key that is no base64": {request("Sec-WebSocket-Key", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="), 400},
		"no upgrade":              {request("Upgrade", "X-Pad: x"), 400},
		"no connection":           {request("Connection", "X-Pad: x"), 400},
		"POST":                    {request("GET ", "POST /v1/ws HTTP/1.1"), 405},
		"CONNECT":                 {request("GET ", "CONNECT /v1/ws HTTP/1.1"), 405},
		"HTTP/1.0":                {request("GET ", "GET /v1/ws HTTP/1.0"), 400},
		"HTTP/9.9":                {request("GET ", "GET /v1/ws HTTP/9.9"), 505},
		"no host":                 {request("Host", "X-Pad: x"), 400},
		"two hosts":               {request("", "Host: evil.example"), 400},
		"a space in a header":     {request("", "Sec-WebSocket-Key : x"), 400},
		"NUL in a header":         {request("", "X-Pad: \x00"), 400},
		"two lengths":             {request("", "Content-Length: 1\r\nContent-Length: 2"), 400},
		"a body":                  {request("", "Content-Length: 5") + "hello", 0},
		"a frame at once":         {request() + string(text(`{"type":"auth","token":"alice"}`)), 0},
		"TLS":                     {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		"HTTP/2":                  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405},
		"another path":            {request("GET ", "GET /v1/../v1/ws HTTP/1.1"), 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := n.stranger(t)
			s.send([]byte(c.sent))
			if c.status == 0 {
				if b, err := s.r.ReadByte(); err == nil {
					t.Errorf("got %q, want the connection to end", b)
				}
				return
			}
			response := s.response()
			if response.StatusCode != c.status {
				t.Fatalf("%s, want %d", response.Status, c.status)
			}
			if c.status != http.StatusSwitchingProtocols {
				return
			}
			if extensions := response.Header.Get("Sec-WebSocket-Extensions"); extensions != "" {
				t.Errorf("negotiated %q", extensions)
			}
			s.wants("hello")
			s.send(frame(0xc1, []byte("\x4a\x4c\x04\x00"))) // compressed
			if code, _, err := s.ends(); code != websocket.CloseProtocolError || err != nil {
				t.Errorf("ended with %d (%v)", code, err)
			}
		})
	}
}
