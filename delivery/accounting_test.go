package delivery_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/wire"
)

// crowded are live clients of one user whose sockets are full, and for whom more waits. Each message is a write of its own. The gateway is
// to have patience with them, as a slow machine takes long to publish all.
func crowded(t *testing.T, n *node, clients, messages int) (all []*peer) {
	t.Helper()
	for i := range clients {
		p := n.dial(t, "User-Agent", fmt.Sprintf("client %d", i))
		expect[wire.Hello](p)
		p.send(wire.Auth{Token: "alice"})
		expect[wire.Ready](p)
		expect[wire.Live](p)
		all = append(all, p)
	}
	data := `"` + strings.Repeat("x", 40<<10) + `"`
	for range messages {
		n.to(t, "alice", data)
	}
	return all
}

// A client that breaks the protocol is told so behind what was on its way to it, and that is what the log and the metrics say: nothing of
// a bad network. What they count as delivered, the client has.
func TestWhoBreaksTheProtocolWithMuchOnTheWayIsTold(t *testing.T) {
	t.Parallel()
	const clients = 3
	log := &journal{}
	n := newTown(t, func(c *nodeConfig) { c.log, c.delivery.WriteWithin, c.delivery.Ping = log, time.Minute, time.Minute })
	n.shows(t, map[string]float64{
		`tidings_connections_closed_total{by="gateway",code="1002"}`: 0,
		`tidings_connections_closed_total{by="gateway",code="1007"}`: 0,
	})
	total := 0
	for i, p := range crowded(t, n, clients, 150) {
		if _, err := p.ws.NetConn().Write([]byte("\x81\x00")); err != nil { // without a mask
			t.Fatal(err)
		}
		got, closes := 0, (*websocket.CloseError)(nil)
		for closes == nil {
			f, err := p.next()
			if _, is := f.(wire.Msg); is {
				got++
			}
			if err != nil && !errors.As(err, &closes) {
				t.Fatalf("after %d messages: %v", got, err)
			}
		}
		_ = p.ws.Close()
		if closes.Code != websocket.CloseProtocolError {
			t.Errorf("closed with %v after %d messages", closes, got)
		}
		e := log.ends(t, fmt.Sprintf("client %d", i))
		if e.Code != websocket.CloseProtocolError || e.By != "gateway" || !strings.Contains(e.Cause, "bad MASK") {
			t.Errorf("%+v", e)
		}
		if e.Delivered != uint64(got) || e.Replayed != 0 || e.Bytes < uint64(got)*(40<<10) {
			t.Errorf("it has %d messages: %+v", got, e)
		}
		total += got
	}
	n.shows(t, map[string]float64{
		`tidings_connections_closed_total{by="gateway",code="1002"}`: clients,
		`tidings_delivered_total{phase="live"}`:                      float64(total),
	})
}

// The latency is that of each write, also of those for which a slow client lets the gateway wait.
func TestLatencyIsOfEachWriteToASlowClient(t *testing.T) {
	t.Parallel()
	const messages = 150
	n := newTown(t, func(c *nodeConfig) { c.delivery.WriteWithin, c.delivery.Ping = time.Minute, time.Minute })
	slow := crowded(t, n, 1, messages)[0]
	for range messages {
		expect[wire.Msg](slow)
	}
	n.shows(t, map[string]float64{
		`tidings_delivered_total{phase="live"}`:  messages,
		`tidings_delivery_latency_seconds_count`: messages,
	})
}
