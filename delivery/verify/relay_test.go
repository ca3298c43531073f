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

// A tamper does to a frame of the gateway what must be found out: it returns what the client gets in its place. One is made for
// each connection.
type tamper func(f wire.Frame) []wire.Frame

// relay stands between clients and a gateway, and plants faults.
func relay(t *testing.T, gateway string, plant func() tamper) (url string) {
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
		pass(client, server, plant())
	}))
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		both.Wait()
	})
	return "ws" + strings.TrimPrefix(front.URL, "http")
}

// pass reads from src to its end, and passes the close code on.
func pass(dst, src *websocket.Conn, through tamper) {
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
		for _, f := range through(f) {
			if dst.WriteMessage(websocket.TextMessage, wire.Append(nil, f)) != nil {
				return
			}
		}
	}
}

// onMsg is a tamper that looks at messages alone.
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

// with is the message with the data, id and all, of another publication.
func with(m wire.Msg, id, user string, n int) wire.Msg {
	m.ID = id
	m.Data, _ = json.Marshal(map[string]any{"id": id, "publisher": "p", "n": n, "to": "user:" + user})
	return m
}
