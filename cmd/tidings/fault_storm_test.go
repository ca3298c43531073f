//go:build linux

package main

import (
	"strconv"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// All clients reconnect at once to a gateway that was killed together with its NATS server, and then leave: nothing is lost or leaked.
func TestFiveThousandClientsBackAtOnce(t *testing.T) {
	streamstest.BesideOthers(t)
	port := strconv.Itoa(streamstest.FreePort(t))
	g := runGateway(t, "--data", t.TempDir(), "--nats-port", port, "--sync", "1s", "--auth-within", "1m")
	w := newTown(t, "nats://127.0.0.1:"+port)
	before, err := verify.Measure(t.Context(), w.nc, g.pid())
	if err != nil {
		t.Fatal(err)
	}
	users := many("quiet", streamstest.Either(100, 5000))
	var clients []*verify.Client
	var leave []func()
	for range streamstest.Either(5, 1) {
		some, stop := w.clients(users, verify.ClientConfig{URLs: []string{g.url()}, Backoff: time.Second, Ack: verify.AckSometimes})
		clients, leave = append(clients, some...), append(leave, stop)
	}
	w.live(clients...)
	for range 4 {
		w.publish(2*time.Millisecond, users)
	}
	old := g.pid()
	g.kill()
	g.start()
	w.live(clients...)
	w.passes()
	for _, stop := range leave {
		stop()
	}
	before.Files[g.pid()] = before.Files[old]
	w.waitForResources(before, g)
}
