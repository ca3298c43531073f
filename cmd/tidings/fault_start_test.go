//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// waits waits until the gateway logs that it waits for what: twice in long tests. The gateway must not exit.
func (g *gateway) waits(what string) {
	g.t.Helper()
	streamstest.Eventually(g.t, longer, func() error {
		select {
		case <-g.done:
			g.t.Fatalf("it ended: %s", g.cmd.ProcessState)
		default:
		}
		if said := g.said(`"message":"waiting for ` + what + `"`); said < streamstest.Either(1, 2) {
			return fmt.Errorf("it says so %d times", said)
		}
		return nil
	})
}

// delivers checks that a client of the gateway receives a notification.
func (w *town) delivers(g *gateway) {
	w.t.Helper()
	c, _ := w.client(verify.ClientConfig{User: "ann", URLs: []string{g.url()}})
	w.live(c)
	w.each([]string{"ann"})
	w.passes()
}

// NATS starts after the gateway, which logs what it waits for, and then serves without a restart.
func TestGatewayStartsBeforeNATS(t *testing.T) {
	streamstest.BesideOthers(t)
	server := streamstest.RunProcess(t)
	server.Kill()
	g := launchGateway(t, "--nats", server.URL())
	pid := g.pid()
	g.waits("NATS")
	if !g.logged("is it running?") {
		t.Error("it does not say what to do")
	}
	response, err := http.Get("http://" + g.listen + wire.Path)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("its clients are told %s %v", response.Status, response.Header)
	}
	server.Restart()
	g.serves()
	newTown(t, server.URL()).delivers(g)
	if g.pid() != pid {
		t.Error("the gateway exited while it waited")
	}
}

// A cluster without a leader accepts connections, but does not reply to JetStream requests.
func TestGatewayStartsBeforeAClusterHasALeader(t *testing.T) {
	streamstest.BesideOthers(t)
	c := streamstest.RunCluster(t, 2)
	c.Node(1).Kill()
	g := launchGateway(t, "--nats", c.Node(0).URL(), "--replicas", "2")
	pid := g.pid()
	g.waits("JetStream")
	c.Start()
	g.serves()
	newTown(t, c.Node(0).URL()).delivers(g)
	if g.pid() != pid {
		t.Error("the gateway exited while it waited")
	}
}

// A gateway that waits can be stopped, whatever it waits for.
func TestGatewayTerminatedWhileItWaits(t *testing.T) {
	streamstest.BesideOthers(t)
	for name, run := range map[string]func(t *testing.T) (g *gateway){
		"nobody listens": func(t *testing.T) *gateway {
			g := launchGateway(t, "--nats", fmt.Sprint("nats://127.0.0.1:", streamstest.FreePort(t)))
			g.waits("NATS")
			return g
		},
		"nobody answers": func(t *testing.T) *gateway {
			mute, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { mute.Close() })
			var urls []string
			for i := range 20 { // each is given 5 s; nats.go merges those that are the same
				urls = append(urls, fmt.Sprintf("nats://%s/?%d", mute.Addr(), i))
			}
			g := launchGateway(t, "--nats", strings.Join(urls, ","))
			if err := mute.SetDeadline(time.Now().Add(longer)); err != nil {
				t.Fatal(err)
			}
			conn, err := mute.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return g
		},
		"no JetStream answers": func(t *testing.T) *gateway {
			server := streamstest.Run(t, streamstest.WithoutJetStream())
			nc := server.Connect(t)
			if _, err := nc.SubscribeSync("$JS.API.>"); err != nil { // or NATS would say that nobody listens
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			g := launchGateway(t, "--nats", server.URL())
			g.waits("JetStream")
			return g
		},
	} {
		t.Run(name, func(t *testing.T) {
			streamstest.BesideOthers(t)
			if code := run(t).terminate(30 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// Errors that waiting does not cure stop the gateway at once, and say what to do.
func TestGatewayDoesNotWaitInVain(t *testing.T) {
	streamstest.BesideOthers(t)
	guarded := streamstest.Run(t, streamstest.WithConfig(`authorization { users: [
		{ user: gateway, password: right },
		{ user: outsider, password: right, permissions: { publish: "notify.>" } } ] }`))
	bare := streamstest.Run(t, streamstest.WithoutJetStream())
	at := strings.TrimPrefix(guarded.URL(), "nats://")
	for name, test := range map[string]struct{ url, hint string }{
		"wrong password": {"nats://gateway:wrong@" + at, "set --creds, --nats-user and --nats-password, or --nats-token"},
		"no permission":  {"nats://outsider:right@" + at, "allow this NATS user to publish to $JS.API.>"},
		"no JetStream":   {bare.URL(), "start nats-server with -js"},
		"not TLS":        {"tls://" + at, "connect to NATS at"},
	} {
		t.Run(name, func(t *testing.T) {
			streamstest.BesideOthers(t)
			g := launchGateway(t, "--nats", test.url)
			if code := g.ends(); code != 1 || !g.logged("tidings: ") || !g.logged(test.hint) {
				t.Errorf("exit code %d", code)
			}
			if g.logged("waiting for") {
				t.Error("it waited first")
			}
		})
	}
}
