package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// journal holds the lines of a log.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(line))
	return len(line), nil
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// saying are the lines of a message that has the text.
func (j *journal) saying(text string) (lines []string) {
	for _, line := range j.all() {
		if strings.Contains(line, text) && !strings.Contains(line, `"limit":`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// ending is the line of a connection's end.
type ending struct {
	Conn, Remote, Origin, Line, User, Device, By, Cause, State, Message string
	UserAgent                                                           string `json:"user_agent"`
	Code                                                                int
	Lasted                                                              float64 `json:"lasted_ms"`
	Auth                                                                float64 `json:"auth_ms"`
	Ready                                                               float64 `json:"ready_ms"`
	Live                                                                float64 `json:"live_ms"`
	After, Unread, Replayed, Delivered, Sent, Acked, Renewals, Bytes    uint64
	Gaps                                                                []string
	keys                                                                []string // in their order
}

// ends waits for the line of a connection with that user agent.
func (j *journal) ends(t *testing.T, userAgent string) (e ending) {
	t.Helper()
	streamstest.Eventually(t, 2*patience, func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, line := range j.lines {
			e = ending{}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return err
			}
			if e.Message == "closed" && e.UserAgent == userAgent {
				for _, key := range regexp.MustCompile(`[{,]"(\w+)":`).FindAllStringSubmatch(line, -1) {
					e.keys = append(e.keys, key[1])
				}
				return nil
			}
		}
		return fmt.Errorf("no line of %s in %q", userAgent, j.lines)
	})
	return e
}

func TestOneLineTellsWhatBecameOfAClient(t *testing.T) {
	t.Parallel()
	log := &journal{}
	n := newNode(t, streamstest.Run(t).URL(), func(c *nodeConfig) { c.log, c.delivery.Origins = log, []string{"https://app.example"} })
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		if strings.HasPrefix(r.Token, "bad") {
			return auth.Identity{}, &auth.Refusal{Code: "token_unknown"}
		}
		time.Sleep(10 * time.Millisecond)
		return auth.Identity{User: "alice", ExpiresIn: time.Hour}, nil
	}))
	for range 3 {
		n.to(t, "alice", `1`)
	}

	// It replays, with a gap, goes live, renews, acknowledges and is disconnected.
	p := n.dial(t, "Origin", "https://app.example", "User-Agent", "the one/1.0")
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "good-secret", Device: "phone", User: "alice", Epoch: "another", After: ptr(uint64(9))})
	ready := expect[wire.Ready](p)
	expect[wire.Gap](p)
	if seqs, _ := p.replay(); len(seqs) != 3 {
		t.Fatalf("%d were replayed", len(seqs))
	}
	p.send(wire.Renew{Token: "good-secret-2"})
	expect[wire.Renewed](p)
	n.to(t, "alice", `2`)
	last := expect[wire.Msg](p).Seq
	p.send(wire.Ack{Seq: last - 1})
	p.send(wire.Ack{Seq: last + 1}) // which is answered once the other has been read
	expect[wire.Error](p)
	if _, _, err := delivery.Disconnect(t.Context(), n.nc, "alice", nil, "logout"); err != nil {
		t.Fatal(err)
	}
	p.closed(wire.CloseDisconnected)
	e := log.ends(t, "the one/1.0")
	if e.Conn != ready.Conn || e.Remote != p.ws.LocalAddr().String() || e.Origin != "https://app.example" || e.Line != "websocket" ||
		e.User != "alice" || e.Device != "phone" || e.Code != 4410 || e.By != "gateway" || !strings.Contains(e.Cause, "logout") || e.State != "live" {
		t.Errorf("%+v", e)
	}
	if e.After != ready.After || e.Unread != 3 || e.Replayed != 3 || e.Delivered != 4 || e.Sent != last || e.Acked != last-1 ||
		e.Renewals != 1 || e.Bytes < 400 || !slices.Equal(e.Gaps, []string{wire.GapStreamReset}) {
		t.Errorf("%+v", e)
	}
	if e.Auth < 10 || e.Ready < e.Auth || e.Live < e.Ready || e.Lasted < e.Live || e.Lasted > float64(2*patience.Milliseconds()) {
		t.Errorf("authenticated after %v ms, ready after %v, live after %v, ended after %v", e.Auth, e.Ready, e.Live, e.Lasted)
	}

	// One is refused, one goes without a word, and one with.
	long := strings.Repeat("x", 199) + strings.Repeat("é", 2000) // is cut, but not within a character
	p = n.dial(t, "User-Agent", long)
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "bad-secret"})
	p.closed(wire.CloseUnauthorized)
	refused := log.ends(t, long[:199])
	if refused.Code != 4401 || refused.By != "gateway" || refused.State != "authenticating" || refused.User != "" || refused.Live != 0 ||
		!strings.Contains(refused.Cause, "token_unknown") || refused.Auth <= 0 {
		t.Errorf("%+v", refused)
	}
	p = n.dial(t, "User-Agent", "the cut/1.0")
	expect[wire.Hello](p)
	_ = p.ws.NetConn().Close()
	if e := log.ends(t, "the cut/1.0"); e.Code != websocket.CloseAbnormalClosure || e.By != "network" || e.Cause == "" {
		t.Errorf("%+v", e)
	}
	p = n.dial(t, "User-Agent", "the polite/1.0")
	expect[wire.Hello](p)
	_ = p.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, "the page is left"))
	if e := log.ends(t, "the polite/1.0"); e.Code != websocket.CloseGoingAway || e.By != "client" || !strings.Contains(e.Cause, "the page is left") {
		t.Errorf("%+v", e)
	}

	listening, response := n.hear(t, "good-secret", "User-Agent", "the listener/1.0")
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
	for listening.next().name != "live" {
	}
	_ = listening.body.Close()
	if e := log.ends(t, "the listener/1.0"); e.Line != "sse" || e.By != "network" || e.State != "live" || e.Replayed != 4 {
		t.Errorf("%+v", e)
	}

	for _, line := range log.all() {
		if strings.Contains(line, "secret") {
			t.Errorf("a token is in the log: %s", line)
		}
	}
	// MONITORING.md lists the fields.
	readme, err := os.ReadFile("../cmd/tidings/deploy/MONITORING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## One line for each connection\n")
	section, _, _ = strings.Cut(section, "\n##")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+) \\|").FindAllStringSubmatch(section, -1) {
		for _, field := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
			documented = append(documented, field[1])
		}
	}
	if have := slices.DeleteFunc(e.keys, func(key string) bool { return key == "level" || key == "message" }); !slices.Equal(have, documented) {
		t.Errorf("the fields are %q, and MONITORING.md says %q", have, documented)
	}
}
