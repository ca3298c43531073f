package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A full disk of the embedded server closes no connection and does not stop the gateway. Clients that reconnect get what is stored, new users
// are told to retry later, and publishing resumes once there is room: nothing that was acknowledged is lost.
func TestEmbeddedServerOnAFullDisk(t *testing.T) {
	streamstest.BesideOthers(t)
	disk := streamstest.NewDisk(t, 64<<20)
	port := strconv.Itoa(streamstest.FreePort(t))
	g := runGateway(t, "--data", filepath.Join(disk.Dir, "data"), "--nats-port", port, "--commit-interval", "50ms")
	w := newTown(t, "nats://127.0.0.1:"+port)
	users := []string{"alice", "bob", "carol"}
	clients, _ := w.clients(users, verify.ClientConfig{URLs: []string{g.url()}})
	w.live(clients...)
	w.each(users)
	before := w.log.Stats()

	disk.Fill(0)
	w.publish(5*time.Millisecond, users)
	w.publish(5*time.Millisecond, users)
	streamstest.Eventually(t, longer, func() error {
		if !g.logged("disk full; publishing is refused") {
			return errors.New("the gateway does not say that the disk is full")
		}
		return nil
	})
	clients[0].Drop()
	newcomer, _ := w.client(verify.ClientConfig{User: "newcomer", URLs: []string{g.url()}})
	streamstest.Eventually(t, longer, func() error {
		switch now := w.log.Stats(); {
		case now.Live != before.Live+1:
			return fmt.Errorf("one did not come again: %s", now)
		case now.Closes[wire.CloseUnavailable] == 0:
			return fmt.Errorf("the newcomer is not told to come later: %s", now)
		}
		return nil
	})

	disk.Empty()
	w.live(append(clients, newcomer)...)
	acknowledged := w.log.Stats().Acknowledged
	streamstest.Eventually(t, longer, func() error {
		if w.log.Stats().Acknowledged < acknowledged+50 {
			return errors.New("publishing does not go on")
		}
		return nil
	})
	w.passes()
	end := w.log.Stats()
	for code := range end.Closes {
		if code != wire.CloseUnavailable {
			t.Errorf("closed with %s: %s", code, end)
		}
	}
	select {
	case <-g.done:
		t.Error("the gateway has ended")
	default:
	}
}
