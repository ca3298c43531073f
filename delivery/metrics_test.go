package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// refuseBad takes the token as the user, but for those that begin with "bad".
func refuseBad(topics ...string) auth.Authenticator {
	return auth.AuthenticatorFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		if strings.HasPrefix(r.Token, "bad") {
			return auth.Identity{}, &auth.Refusal{Code: "token_unknown"}
		}
		return auth.TokenIsUser(topics...).Authenticate(ctx, r)
	})
}

// exposition is what Prometheus would read of the gateway.
func exposition(t *testing.T, g *delivery.Gateway) string {
	t.Helper()
	w := httptest.NewRecorder()
	g.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// samples are the values of an exposition, by name and labels.
func samples(t *testing.T, text string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		cut := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		all[line[:cut]] = value
	}
	return all
}

// shows waits until the gateway's metrics have these values.
func (n *node) shows(t *testing.T, want map[string]float64) {
	t.Helper()
	streamstest.Eventually(t, 2*patience, func() (err error) {
		have := samples(t, exposition(t, n.gateway))
		for name, value := range want {
			if got, ok := have[name]; !ok || got != value {
				err = errors.Join(err, fmt.Errorf("%s is %v (%v), want %v", name, got, ok, value))
			}
		}
		return err
	})
}

func TestMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	const user, device, topic = "carol-of-the-metrics", "pocket-of-the-metrics", "affairs-of-the-metrics"
	n := newNode(t, streamstest.Run(t).URL(), withKeys(apiKey), func(c *nodeConfig) { c.tail.MaxBytes = 2000 })
	n.answer(t, refuseBad(topic))
	n.shows(t, map[string]float64{
		`tidings_tail_warm`: 1, `tidings_stream_unfit`: 0, `tidings_nats_connected`: 1, `tidings_tail_limit_bytes`: 2000, `tidings_connections{line="websocket",state="live"}`: 0,
		`tidings_connections_closed_total{by="gateway",code="4503"}`: 0, `tidings_auth_requests_total{result="unavailable"}`: 0,
	})

	// Thirty messages, more than the Tail holds, are read from the stream.
	for range 30 {
		n.to(t, user, `{"a":1}`)
	}
	n.shows(t, map[string]float64{`tidings_tail_lag_messages`: 0})
	refused := n.dial(t)
	expect[wire.Hello](refused)
	n.shows(t, map[string]float64{`tidings_connections{line="websocket",state="authenticating"}`: 1})
	refused.send(wire.Auth{Token: "bad-token-of-the-metrics"})
	refused.closed(wire.CloseUnauthorized)

	p, ready := n.enter(t, wire.Auth{Token: user, Device: device})
	if seqs, _ := p.replay(); len(seqs) != 30 {
		t.Fatalf("%d were replayed", len(seqs))
	}
	p.send(wire.Ack{Seq: 30})
	seq := n.toTopic(t, topic, `"news"`)
	expect[wire.Msg](p)
	p.send(wire.Ack{Seq: seq})
	listening, response := n.hear(t, user)
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
	n.shows(t, map[string]float64{
		`tidings_connections{line="websocket",state="live"}`:           1,
		`tidings_connections{line="websocket",state="replaying"}`:      0,
		`tidings_connections{line="websocket",state="authenticating"}`: 0,
		`tidings_connections{line="sse",state="live"}`:                 1,
		`tidings_connections_opened_total{line="websocket"}`:           2,
		`tidings_connections_opened_total{line="sse"}`:                 1,
		`tidings_connections_closed_total{by="gateway",code="4401"}`:   1,
		`tidings_users`: 1, `tidings_cursors`: 2, `tidings_cursors_pending`: 0,
		`tidings_auth_requests_total{result="refused"}`:  1,
		`tidings_auth_requests_total{result="admitted"}`: 2,
		`tidings_auth_duration_seconds_count`:            3,
		`tidings_auth_in_flight`:                         0,
		`tidings_delivered_total{phase="live"}`:          1,
		`tidings_delivery_latency_seconds_count`:         1,
		`tidings_acks_total{line="websocket"}`:           2,
		`tidings_replay_duration_seconds_count`:          2,
		`tidings_replay_messages_bucket{le="10"}`:        0,
		`tidings_replay_messages_bucket{le="50"}`:        2,
		`tidings_delivered_total{phase="replay"}`:        30 + 30, // the device, and the events
	})
	streamstest.Eventually(t, 2*patience, func() (err error) {
		have := samples(t, exposition(t, n.gateway))
		for _, name := range []string{
			`tidings_cold_read_duration_seconds_count{kind="alone"}`, `tidings_cold_read_messages_total{kind="alone"}`,
			`tidings_commits_total{result="moved"}`, `tidings_commit_duration_seconds_count`, `tidings_tail_messages`, `tidings_tail_bytes`,
			`tidings_delivery_latency_seconds_sum`, `go_goroutines`,
		} {
			if have[name] <= 0 {
				err = errors.Join(err, fmt.Errorf("%s is %v", name, have[name]))
			}
		}
		return err
	})

	// A position of another epoch is a gap.
	lost, _ := n.enter(t, wire.Auth{Token: user, Device: device, User: user, Epoch: "another", After: ptr(uint64(1))})
	if gap := expect[wire.Gap](lost); gap.Reason != wire.GapStreamReset {
		t.Fatalf("%+v", gap)
	}
	lost.replay()
	_ = lost.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(3999, "a code of no standard"))
	lost.closed(3999)
	_ = listening.body.Close()
	n.call(t, http.MethodPost, "/v1/ack", fmt.Sprintf(`{"epoch":%q,"seq":2}`, ready.Epoch), "Authorization", "Bearer "+user).is(http.StatusNoContent)
	for seq := range 2 { // which has been acknowledged
		n.call(t, http.MethodPost, "/v1/ack", fmt.Sprintf(`{"epoch":%q,"seq":%d}`, ready.Epoch, seq+1), "Authorization", "Bearer "+user).
			is(http.StatusNoContent)
	}
	body := fmt.Sprintf(`{"to":%q,"id":"one","data":1}`, user)
	n.publishes(t, http.StatusAccepted, body)
	n.publishes(t, http.StatusAccepted, body)
	expect[wire.Msg](p)
	if _, _, err := delivery.Disconnect(t.Context(), n.nc, user, nil, ""); err != nil {
		t.Fatal(err)
	}
	p.closed(wire.CloseDisconnected)
	n.shows(t, map[string]float64{
		`tidings_gaps_total{reason="stream_reset"}`:                  1,
		`tidings_connections_closed_total{by="client",code="other"}`: 1,
		`tidings_connections_closed_total{by="network",code="1006"}`: 1, // the events
		`tidings_connections_closed_total{by="gateway",code="4410"}`: 1,
		`tidings_connections{line="websocket",state="live"}`:         0,
		`tidings_connections{line="sse",state="live"}`:               0,
		`tidings_acks_total{line="http"}`:                            1,
		`tidings_published_total{result="stored"}`:                   1,
		`tidings_published_total{result="duplicate"}`:                1,
		`tidings_users`: 0,
	})

	text := exposition(t, n.gateway)
	for _, secret := range []string{user, device, topic, "bad-token", "of-the-metrics", ready.Conn, ready.Epoch, "127.0.0.1"} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics speak of %s", secret)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "tidings_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestMetricsTellOfTrouble(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	n := newNode(t, server.URL(), func(c *nodeConfig) { c.auth.Timeout = 200 * time.Millisecond })
	p := n.dial(t)
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "nobody-answers"})
	p.closed(wire.CloseUnavailable)
	n.shows(t, map[string]float64{
		`tidings_auth_requests_total{result="unavailable"}`:          1,
		`tidings_connections_closed_total{by="gateway",code="4503"}`: 1,
	})
	n.answer(t, auth.TokenIsUser())
	n.live(t, "alice")
	server.Stop()
	n.shows(t, map[string]float64{`tidings_nats_connected`: 0, `tidings_users`: 1})
	server.Restart()
	n.shows(t, map[string]float64{`tidings_nats_connected`: 1, `tidings_nats_reconnects_total`: 1})
}

// What belongs to the process is registered with each gateway, and with no other.
func TestTwoGatewaysInOneProcessHaveMetricsOfTheirOwn(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	one, two := newNode(t, server.URL()), newNode(t, server.URL())
	one.answer(t, auth.TokenIsUser())
	one.live(t, "alice")
	const connections = `tidings_connections{line="websocket",state="live"}`
	one.shows(t, map[string]float64{connections: 1})
	two.shows(t, map[string]float64{connections: 0, `tidings_auth_requests_total{result="admitted"}`: 0})
}

// Where another gateway has moved a position as far, nothing is moved.
func TestMetricsTellCommitsApart(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	one := newNode(t, server.URL())
	two := newNode(t, server.URL(), func(c *nodeConfig) { c.cursors.Interval = time.Hour })
	one.answer(t, auth.TokenIsUser())
	a, _ := one.live(t, "alice")
	b, _ := two.live(t, "alice")
	first := one.to(t, "alice", `1`)
	for _, p := range []*peer{a, b} {
		expect[wire.Msg](p)
	}
	b.send(wire.Ack{Seq: first}) // committed soon, and then not before it goes
	two.shows(t, map[string]float64{`tidings_commits_total{result="moved"}`: 1})
	second := one.to(t, "alice", `2`)
	for _, p := range []*peer{a, b} {
		expect[wire.Msg](p)
	}
	b.send(wire.Ack{Seq: second})
	a.send(wire.Ack{Seq: second})
	one.committed(t, streams.CursorID{User: "alice"}, second, 0)
	_ = b.ws.Close()
	two.shows(t, map[string]float64{`tidings_commits_total{result="skipped"}`: 1, `tidings_commits_total{result="moved"}`: 1})
}
