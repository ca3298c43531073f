//go:build linux

package main

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// goodbye describes how a connection was closed.
type goodbye struct {
	n      int // so many were made before it
	at     time.Time
	goaway wire.Goaway
	err    error
}

// silent connects clients that send nothing, and returns how each connection was closed.
func (g *gateway) silent(n int) <-chan goodbye {
	g.t.Helper()
	ended := make(chan goodbye, n)
	var waiting sync.WaitGroup
	g.t.Cleanup(waiting.Wait)
	for i := range n {
		ws, _, err := websocket.DefaultDialer.DialContext(g.t.Context(), g.url()+wire.Path, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { ws.Close() })
		waiting.Go(func() {
			end := goodbye{n: i}
			for end.err == nil {
				var frame []byte
				if _, frame, end.err = ws.ReadMessage(); end.err != nil {
					break
				}
				if said, err := wire.Decode(frame); err == nil {
					if goaway, is := said.(wire.Goaway); is {
						end.at, end.goaway = time.Now(), goaway
					}
				}
			}
			ended <- end
		})
	}
	return ended
}

// A gateway that shuts down fails its readiness, accepts no new connections, and closes the open ones at a pace and in random order,
// unauthenticated ones too.
func TestGatewayDrainsAtAPace(t *testing.T) {
	streamstest.BesideOthers(t)
	g := runGateway(t, "--dev", "--data", t.TempDir(), "--nats-port", "0", "--auth-within", "10m", "--drain", "10s")
	admin := g.admin()
	const n = 400 // which takes 4 s, at 100 a second
	ended := g.silent(n)
	g.signal(syscall.SIGTERM)
	signalled := time.Now()
	ready(t, admin, "draining")
	response, err := http.Get("http://" + g.listen + wire.Path)
	switch late := time.Since(signalled) > 3*time.Second; {
	case err != nil && late: // this machine stood still, and what listened is gone
		t.Log(err)
	case err != nil:
		t.Fatal(err)
	default:
		response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("who comes now is told %s %v", response.Status, response.Header)
		}
	}

	var ends []goodbye
	for range n {
		end := <-ended
		if !websocket.IsCloseError(end.err, int(wire.CloseDraining)) || end.goaway.Code != wire.CloseDraining ||
			end.goaway.RetryAfter <= 0 || end.goaway.RetryAfter > 2000 {
			t.Fatalf("a client was told %+v", end)
		}
		ends = append(ends, end)
	}
	slices.SortFunc(ends, func(a, b goodbye) int { return a.at.Compare(b.at) })
	if took := ends[n-1].at.Sub(ends[0].at); took < 2*time.Second || took > 8*time.Second {
		t.Errorf("they were told within %s", took)
	}
	if slices.IsSortedFunc(ends, func(a, b goodbye) int { return a.n - b.n }) {
		t.Error("they were told in the order in which they came")
	}
	if code := g.ends(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A client that does not answer its close frame, such as one on a sleeping machine, does not make the gateway fail, however short --drain is.
func TestDrainWithASilentClient(t *testing.T) {
	t.Parallel()
	for _, drain := range []string{"1s", "100ms"} {
		t.Run(drain, func(t *testing.T) {
			t.Parallel()
			g := runGateway(t, "--dev", "--data", t.TempDir(), "--nats-port", "0", "--auth-within", "10m", "--drain", drain)
			ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), g.url()+wire.Path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close() // which has read nothing
			g.signal(syscall.SIGTERM)
			if code := g.ends(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// The second signal shortens the drain, but keeps its order: positions are committed.
func TestGatewayHurries(t *testing.T) {
	streamstest.BesideOthers(t)
	server := streamstest.RunProcess(t)
	g := runGateway(t, "--nats", server.URL(), "--drain-delay", "1h", "--drain", "1h", "--commit-interval", "1h", "--ping", "10m")
	w := newTown(t, server.URL())
	users := many("quiet", 5)
	clients, leave := w.clients(users, verify.ClientConfig{URLs: []string{g.url()}})
	w.live(clients...)
	w.uncommitted(users, clients)
	w.flush(clients...)
	g.signal(syscall.SIGTERM)
	ready(t, g.admin(), "draining")
	c, leaveToo := w.client(verify.ClientConfig{User: "ann", URLs: []string{g.url()}}) // who is sent here nevertheless
	w.live(append(clients, c)...)
	if code := g.terminate(longer); code != 0 {
		t.Errorf("exit code %d", code)
	}
	leave()
	leaveToo()
	w.committed(users, clients)
	if closes := w.log.Stats().Closes[wire.CloseDraining]; closes != len(users)+1 {
		t.Errorf("%d were told why: %s", closes, w.log.Stats())
	}
	w.passes()
}

// After the second signal the gateway does not wait for NATS while that is down, however long --drain is.
func TestSecondSignalWhileNATSIsDown(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("waits for 10 s; set TIDINGS_LONG=1")
	}
	g, proxy, _, _ := leftUncommitted(t, 2, "--drain", "1h")
	proxy.Stall()
	g.signal(syscall.SIGTERM)
	ready(t, g.admin(), "draining")
	if code := g.terminate(longer); code != 1 || !g.logged("not all positions were committed") {
		t.Errorf("exit code %d", code)
	}
}

// The third signal kills the gateway at once.
func TestGatewayEndsAtOnce(t *testing.T) {
	g, proxy, _, _ := leftUncommitted(t, 2, "--drain", "1h")
	proxy.Stall() // now there is something to commit, and nobody who answers
	streamstest.Eventually(t, longer, func() error {
		_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-g.done:
			return nil
		case <-time.After(200 * time.Millisecond):
			return errors.New("it goes on")
		}
	})
	if state := g.cmd.ProcessState.String(); !strings.Contains(state, syscall.SIGTERM.String()) {
		t.Errorf("it ended with %s", state)
	}
	if said := g.said(`"message":"stopping"`); said != 1 {
		t.Errorf("it said %d times that it stops", said)
	}
}
