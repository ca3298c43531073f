package verify_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// A tamper inserts a fault: it returns the frames that the client receives in place of a frame of the gateway. Each
// connection has its own.
type tamper func(f wire.Frame) []wire.Frame

// relay runs a relay between clients and a gateway that inserts faults, and returns its URL.
func relay(t *testing.T, gateway string, fault func() tamper) (url string) {
	t.Helper()
	var both sync.WaitGroup
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.Subprotocol}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer client.Close()
		dialer := websocket.Dialer{Subprotocols: []string{wire.Subprotocol}}
		server, _, err := dialer.DialContext(r.Context(), gateway+wire.Path, nil)
		if err != nil {
			return
		}
		defer server.Close()
		both.Go(func() {
			pass(server, client, func(f wire.Frame) []wire.Frame { return []wire.Frame{f} })
			_ = server.Close()
		})
		pass(client, server, fault())
	}))
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		both.Wait()
	})
	return "ws" + strings.TrimPrefix(front.URL, "http")
}

// pass forwards frames from src to dst until src ends, and then forwards the close code.
func pass(dst, src *websocket.Conn, change tamper) {
	for {
		_, data, err := src.ReadMessage()
		if err != nil {
			if closed, ok := err.(*websocket.CloseError); ok && closed.Code != websocket.CloseAbnormalClosure {
				_ = dst.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(closed.Code, closed.Text))
			}
			return
		}
		f, err := wire.Decode(data)
		if err != nil {
			return
		}
		for _, f := range change(f) {
			if dst.WriteMessage(websocket.TextMessage, wire.Append(nil, f)) != nil {
				return
			}
		}
	}
}

// onMsg returns a tamper that changes msg frames only.
func onMsg(do func(m wire.Msg) []wire.Frame) func() tamper {
	return func() tamper {
		return func(f wire.Frame) []wire.Frame {
			if m, ok := f.(wire.Msg); ok {
				return do(m)
			}
			return []wire.Frame{f}
		}
	}
}

// with returns the message with the id and the data of another publication.
func with(m wire.Msg, id, user string, n int) wire.Msg {
	m.ID = id
	m.Data, _ = json.Marshal(map[string]any{"id": id, "publisher": "p", "n": n, "to": "user:" + user})
	return m
}
