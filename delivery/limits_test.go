package delivery_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Two clients' addresses.
const here, elsewhere = "127.0.0.1", "127.0.0.2"

func withLimits(l delivery.Limits) func(*nodeConfig) {
	return func(c *nodeConfig) { c.delivery.Limits = l }
}

// from dials from an address of this machine.
func from(t *testing.T, address string) *net.Dialer {
	t.Helper()
	probe, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Skip("this system has one loopback address: ", err)
	}
	_ = probe.Close()
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
}

// try connects from an address; the status is 101, or why not.
func (n *node) try(t *testing.T, address string, header ...string) (*peer, int) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	dialer := websocket.Dialer{NetDialContext: from(t, address).DialContext, HandshakeTimeout: patience}
	ws, response, err := dialer.DialContext(t.Context(), "ws://"+n.address+wire.Path, h)
	if response == nil {
		t.Fatal(err)
	}
	if err != nil {
		if after, err := strconv.Atoi(response.Header.Get("Retry-After")); err != nil || after < 1 || after > 10 {
			t.Errorf("%s, Retry-After %q", response.Status, response.Header.Get("Retry-After"))
		}
		return nil, response.StatusCode
	}
	t.Cleanup(func() { _ = ws.Close() })
	return &peer{t: t, ws: ws}, response.StatusCode
}

// get makes a request from an address, which answers with a status.
func (n *node) get(t *testing.T, address, target, token string, headers ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.address+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DialContext: from(t, address).DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// inside waits until so many are in.
func (n *node) inside(t *testing.T, all, unknown, addresses int) {
	t.Helper()
	streamstest.Eventually(t, 2*patience, func() error {
		if a, u, o := n.gateway.Inside(); a != all || u != unknown || o != addresses {
			return fmt.Errorf("%d are in, %d unknown, from %d addresses; want %d, %d, %d", a, u, o, all, unknown, addresses)
		}
		return nil
	})
}

// admitted sends a token, and has it admitted.
func (p *peer) admitted(token string) *peer {
	p.t.Helper()
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: token})
	await[wire.Live](p)
	return p
}

func TestConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{ConnectionsPerAddress: 2}))
	first, _ := n.try(t, here)
	first.admitted("alice")
	l, _ := n.hear(t, "alice")
	l.next()
	if _, status := n.try(t, here); status != http.StatusTooManyRequests {
		t.Errorf("the third is answered %d", status)
	}
	if status := n.get(t, here, delivery.EventsPath, "alice"); status != http.StatusTooManyRequests {
		t.Errorf("events of a third are answered %d", status)
	}
	other, _ := n.try(t, elsewhere)
	other.admitted("alice")
	n.inside(t, 3, 0, 2)
	if refused := n.gateway.Refused("connections_per_address"); refused != 2 {
		t.Errorf("%d counted", refused)
	}
	_ = first.ws.Close()
	n.inside(t, 2, 0, 2)
	again, _ := n.try(t, here)
	again.admitted("bob")
	for _, end := range []func() error{again.ws.Close, other.ws.Close, l.body.Close} {
		_ = end()
	}
	n.inside(t, 0, 0, 0)
}

func TestConnectionsInAll(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{Connections: 2}))
	for _, address := range []string{here, elsewhere} {
		p, _ := n.try(t, address)
		p.admitted("alice")
		defer p.ws.Close()
	}
	if _, status := n.try(t, here); status != http.StatusServiceUnavailable {
		t.Errorf("the third is answered %d", status)
	}
	n.inside(t, 2, 0, 2)
}

// Who connects and says nothing goes when its time is over, and past a number is not let in. Nobody else is concerned.
func TestSilentSocketsFromOneAddress(t *testing.T) {
	for silence, inTime := 2*time.Second, false; !inTime; silence *= 2 { // on a slow machine the first are gone before the last have come
		if silence > time.Minute {
			t.Fatal("the machine is too slow for it")
		}
		t.Run(silence.String(), func(t *testing.T) { inTime = silentSockets(t, silence) })
	}
}

// silentSockets says whether all came before the first were gone.
func silentSockets(t *testing.T, silence time.Duration) bool {
	const silent, most = 300, 100
	n := newTown(t, withLimits(delivery.Limits{UnauthenticatedPerAddress: most, Unauthenticated: most + 1}),
		func(c *nodeConfig) { c.delivery.AuthWithin = silence })
	good, _ := n.try(t, elsewhere)
	good.admitted("alice")
	base := runtime.NumGoroutine()
	began := time.Now()
	var in []*peer
	refused := 0
	for range silent {
		p, status := n.try(t, here)
		switch {
		case p != nil:
			in = append(in, p)
		case status == http.StatusTooManyRequests:
			refused++
		default:
			t.Fatal(status)
		}
	}
	if time.Since(began) > silence*3/4 {
		return false
	}
	if len(in) != most || refused != silent-most {
		t.Errorf("%d are in, %d refused", len(in), refused)
	}
	n.to(t, "alice", "x")
	expect[wire.Msg](good)
	more, _ := n.try(t, elsewhere)
	if _, status := n.try(t, elsewhere); status != http.StatusServiceUnavailable {
		t.Errorf("one past all that may be unauthenticated is answered %d", status)
	}
	more.admitted("bob")
	for _, p := range in {
		p.closed(wire.CloseTimeout)
		_ = p.ws.Close()
	}
	_ = more.ws.Close()
	n.inside(t, 1, 0, 1)
	streamstest.Eventually(t, 2*patience, func() error {
		if now := runtime.NumGoroutine(); now > base+20 { // some are of libraries; those of 100 sockets would be more
			return fmt.Errorf("%d goroutines, %d before", now, base)
		}
		return nil
	})
	return true
}

func TestConnectionsPerUser(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{ConnectionsPerUser: 2}))
	n.live(t, "alice")
	l, _ := n.hear(t, "alice")
	l.next()
	p := n.dial(t)
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "alice", Device: "another"})
	if goaway := p.closed(wire.CloseTooMany); goaway.RetryAfter < 30_000 {
		t.Errorf("goaway: %+v", goaway)
	}
	_, response := n.hear(t, "alice")
	if after, _ := strconv.Atoi(response.Header.Get("Retry-After")); response.StatusCode != http.StatusTooManyRequests || after < 30 {
		t.Errorf("events: %s, Retry-After %d", response.Status, after)
	}
	source, _ := n.hear(t, "alice", "Accept", "text/event-stream")
	if e := source.next(); e == nil || e.name != "goaway" {
		t.Errorf("an EventSource, which takes 429 for final, gets %+v", e)
	}
	n.live(t, "bob")
	_ = l.body.Close()
	n.inside(t, 2, 0, 1)
	n.live(t, "alice")
}

// asking is a log that looks at the gateway when one of a user is turned away: whether others can meanwhile.
type asking struct {
	gateway  atomic.Pointer[delivery.Gateway]
	answered chan bool
}

func (l *asking) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"connections_per_user"`)) {
		count := make(chan int, 1)
		go func() { count <- l.gateway.Load().Connections("alice") }()
		select {
		case <-count:
			l.answered <- true
		case <-time.After(patience):
			l.answered <- false
		}
	}
	return len(line), nil
}

// However slow the log is, others connect and go while a refusal is written.
func TestNobodyWaitsForTheLogOfARefusal(t *testing.T) {
	t.Parallel()
	log := &asking{answered: make(chan bool, 1)}
	n := newTown(t, withLimits(delivery.Limits{ConnectionsPerUser: 1}), func(c *nodeConfig) { c.log = log })
	log.gateway.Store(n.gateway)
	n.live(t, "alice")
	p := n.dial(t)
	p.send(wire.Auth{Token: "alice"})
	if !<-log.answered {
		t.Error("others wait for the log")
	}
	p.closed(wire.CloseTooMany)
}

// TestTheLogNamesWhoIsOverALimit: the user of too many connections, and the API key, by a digest, of too many requests.
func TestTheLogNamesWhoIsOverALimit(t *testing.T) {
	t.Parallel()
	log := &journal{}
	n := newTown(t, withKeys(apiKey), withLimits(delivery.Limits{ConnectionsPerUser: 1, PublishRate: 0.01}), func(c *nodeConfig) { c.log = log })
	n.live(t, "alice")
	p := n.dial(t)
	p.send(wire.Auth{Token: "alice"})
	p.closed(wire.CloseTooMany)
	for range 2 {
		n.call(t, http.MethodPost, "/v1/notifications", `{"to":"alice","data":1}`, "Authorization", "Bearer "+apiKey)
	}
	sum := sha256.Sum256([]byte(apiKey))
	for limit, field := range map[string]string{
		"connections_per_user": `"user":"alice"`, "publish_rate": fmt.Sprintf(`"key_sha256":"%x…"`, sum[:4]),
	} {
		if !slices.ContainsFunc(log.all(), func(line string) bool {
			return strings.Contains(line, `"limit":"`+limit+`"`) && strings.Contains(line, field)
		}) {
			t.Errorf("%s: no line with %s in %q", limit, field, log.all())
		}
	}
}
