package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// The flags take effect, and the gateway logs once a minute that it rejects clients.
func TestGatewayWithLimits(t *testing.T) {
	t.Parallel()
	g := runGateway(t, "--nats", streamstest.Run(t).URL(), "--max-connections-per-address", "1", "--trusted-proxy", "127.0.0.0/8")
	dial := func(client string) int {
		ws, response, err := websocket.DefaultDialer.DialContext(t.Context(), g.url()+"/v1/ws", http.Header{"X-Forwarded-For": {client}})
		if response == nil {
			t.Fatal(err)
		}
		if err == nil {
			t.Cleanup(func() { _ = ws.Close() })
		}
		return response.StatusCode
	}
	for i, want := range []int{101, 429, 429, 429} {
		if got := dial("203.0.113.1"); got != want {
			t.Errorf("connection %d is answered %d, want %d", i, got, want)
		}
	}
	if got := dial("203.0.113.2"); got != 101 {
		t.Errorf("another client is answered %d", got)
	}
	log, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "connections_per_address"); n != 1 || !strings.Contains(string(log), "203.0.113.1") {
		t.Errorf("%d lines of it in\n%s", n, log)
	}
}
