package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

func cursorOf(user string) streams.CursorID { return streams.CursorID{User: user} }

func TestBadFramesBeforeAuth(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.delivery.AuthWithin = 300 * time.Millisecond })
	for name, c := range map[string]struct {
		frame string
		code  wire.CloseCode
	}{
		"not JSON":           {"hello", 4400},
		"an array":           {"[]", 4400},
		"no type":            {"{}", 4400},
		"another frame":      {`{"type":"ack","seq":1}`, 4400},
		"an unknown type":    {`{"type":"new"}`, 4400},
		"token not a string": {`{"type":"auth","token":5}`, 4400},
		"after negative":     {`{"type":"auth","token":"alice","after":-1}`, 4400},
		"a long device":      {`{"type":"auth","token":"alice","device":"` + strings.Repeat("x", 300) + `"}`, 4400},
		"a broken device":    {`{"type":"auth","token":"alice","device":"\ud800"}`, 4400},
		"a broken user":      {`{"type":"auth","token":"alice","user":"\ud800","after":0,"epoch":"x"}`, 4400},
		"a field twice":      {`{"type":"auth","token":"bob","token":"alice"}`, 4400},
		"another spelling":   {`{"type":"auth","token":"alice","Device":"phone"}`, 4400},
		"an empty token":     {`{"type":"auth","token":""}`, 4401},
		"a token of 1 MB":    {`{"type":"auth","token":"` + strings.Repeat("x", 1<<20) + `"}`, 4413},
		"invalid UTF-8":      {"{\"type\":\"auth\",\"token\":\"\xff\"}", 1007},
	} {
		t.Run(name, func(t *testing.T) {
			p := n.dial(t)
			expect[wire.Hello](p)
			// The server may close before it has read all.
			_ = p.ws.WriteMessage(websocket.TextMessage, []byte(c.frame))
			p.closed(c.code)
		})
	}
	t.Run("binary", func(t *testing.T) {
		p := n.dial(t)
		if err := p.ws.WriteMessage(websocket.BinaryMessage, []byte(`{"type":"auth","token":"alice"}`)); err != nil {
			t.Fatal(err)
		}
		p.closed(4400)
	})
	t.Run("silence", func(t *testing.T) { n.dial(t).closed(4508) })
}

func TestBadFramesAfterAuth(t *testing.T) {
	n := newTown(t)
	for name, c := range map[string]struct {
		frame string
		code  wire.CloseCode
	}{
		"auth again":     {`{"type":"auth","token":"alice"}`, 4400},
		"ack negative":   {`{"type":"ack","seq":-1}`, 4400},
		"ack a string":   {`{"type":"ack","seq":"1"}`, 4400},
		"ack a fraction": {`{"type":"ack","seq":1.5}`, 4400},
		"too large":      {`{"type":"pong","x":"` + strings.Repeat("x", 20<<10) + `"}`, 4413},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := n.live(t, "alice")
			_ = p.ws.WriteMessage(websocket.TextMessage, []byte(c.frame))
			p.closed(c.code)
		})
	}
}

func TestAcknowledgements(t *testing.T) {
	n := newTown(t)
	p, _ := n.live(t, "alice")
	var seqs []uint64
	for range 3 {
		seqs = append(seqs, n.to(t, "alice", "x"))
	}
	for range seqs {
		expect[wire.Msg](p)
	}
	p.send(wire.Ack{Seq: seqs[2] + 1})
	if e := expect[wire.Error](p); e.Code != wire.ErrorBadAck {
		t.Errorf("error: %+v", e)
	}
	n.committed(t, cursorOf("alice"), 0, 3)
	p.send(wire.Ack{Seq: seqs[1]})
	n.committed(t, cursorOf("alice"), seqs[1], 1)
	p.send(wire.Ack{Seq: seqs[0]}) // behind: nothing moves
	p.send(wire.Ack{Seq: seqs[1]}) // the same again
	p.raw(`{"type":"of the future"}`)
	p.send(wire.Ack{Seq: seqs[2]})
	n.committed(t, cursorOf("alice"), seqs[2], 0)
}

func TestLiveAndPingSeqsMayBeAcknowledged(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.delivery.Ping = 100 * time.Millisecond })
	n.to(t, "bob", "x")
	p, _ := n.enter(t, wire.Auth{Token: "alice"})
	live := expect[wire.Live](p)
	p.send(wire.Ack{Seq: live.Seq})
	n.committed(t, cursorOf("alice"), live.Seq, 0)
	last := n.to(t, "bob", "x")
	for {
		ping := expect[wire.Ping](p)
		p.send(wire.Pong{})
		if ping.Seq == last {
			break
		}
	}
	p.send(wire.Ack{Seq: last})
	n.committed(t, cursorOf("alice"), last, 0)
}

func TestSilentClientsAreGivenUp(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) {
		c.delivery.Ping = 200 * time.Millisecond
		c.delivery.PongWithin = 200 * time.Millisecond
	})
	p, _ := n.live(t, "alice")
	p.closed(4508)
}

func TestSubprotocols(t *testing.T) {
	n := newTown(t)
	p := n.dial(t, "Sec-WebSocket-Protocol", "graphql-ws, tidings.v1")
	if p.ws.Subprotocol() != wire.Subprotocol {
		t.Errorf("subprotocol %q", p.ws.Subprotocol())
	}
	expect[wire.Hello](p)
	n.dial(t, "Sec-WebSocket-Protocol", "graphql-ws").closed(4406)
}

func TestPayloads(t *testing.T) {
	n := newTown(t)
	p, _ := n.live(t, "alice")
	for _, c := range []struct{ data, kind, want string }{
		{`{"a": 1}`, "", `"data":{"a": 1}`},
		{"{\n\"a\":\r\n1}", "", `"data":{"a":1}`},
		{"hello", "", `"data":"hello"`},
		{`{"a":`, "", `"data":"{\"a\":"`},
		{"", "", `"data":""`},
		{"\xff\x00", "", `"data_b64":"/wA="`},
		{"\"\xff\"", "", `"data_b64":"Iv8i"`},
		{"<img src=x onerror=alert(1)>", "", `"data":"<img src=x onerror=alert(1)>"`},
		{"5", "text/plain", `"data":"5"`},
	} {
		_, err := n.publish.User(t.Context(), "alice", streams.Notification{Data: []byte(c.data), ContentType: c.kind})
		if err != nil {
			t.Fatal(err)
		}
		_ = p.ws.SetReadDeadline(time.Now().Add(patience))
		_, frame, err := p.ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(string(frame), c.want+"}") || !strings.HasPrefix(string(frame), `{"type":"msg","seq":`) {
			t.Errorf("%q came as %s", c.data, frame)
		}
	}
	// A bare publish of any NATS client is a notification too.
	if err := n.nc.Publish("notify.user.alice", []byte("bare")); err != nil {
		t.Fatal(err)
	}
	if m := expect[wire.Msg](p); string(m.Data) != `"bare"` || m.ID != "" {
		t.Errorf("msg: %+v", m)
	}
}

func TestAwkwardUsersGetTheirOwnAndNothingElse(t *testing.T) {
	t.Parallel()
	n := newTown(t)
	names := []string{
		"*", ">", "a.b", "a b", "a\r\nb", "a\x00b", "🙂", strings.Repeat("A", 84), "Alice", "alice", "user.alice", "h-x", "%2E", "日本",
	}
	peers := map[string]*peer{}
	for _, name := range names {
		peers[name], _ = n.live(t, name)
	}
	for _, name := range names {
		n.to(t, name, fmt.Sprintf("%q", name))
	}
	for _, name := range names {
		m := expect[wire.Msg](peers[name])
		if string(m.Data) != fmt.Sprintf("%q", name) && name != "a\x00b" { // %q of NUL is no JSON
			t.Errorf("%q got %s", name, m.Data)
		}
		peers[name].send(wire.Ack{Seq: m.Seq})
		n.committed(t, cursorOf(name), m.Seq, 0)
	}
}
