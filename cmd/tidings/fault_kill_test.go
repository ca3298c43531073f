//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// everyKind connects clients of all kinds to gateways: such as keep their position, and such as do not; that acknowledge each
// message, some, and none; that share a cursor, and that have one of their own.
func (w *town) everyKind(urls ...string) (users []string, all []*verify.Client) {
	for i, cfg := range []verify.ClientConfig{
		{User: "keeps"},
		{User: "keeps-some", Ack: verify.AckSometimes},
		{User: "keeps-silent", Ack: verify.AckNever},
		{User: "forgets", Forget: true},
		{User: "forgets-some", Ack: verify.AckSometimes, Forget: true},
		{User: "forgets-silent", Ack: verify.AckNever, Forget: true}, // to whom everything is replayed each time
		{User: "two", Name: "one of two"},
		{User: "two", Name: "the other of two", Ack: verify.AckSometimes},
		{User: "mixed", Name: "mixed that keeps", Ack: verify.AckSometimes},
		{User: "mixed", Name: "mixed that forgets", Ack: verify.AckSometimes, Forget: true},
		{User: "devices", Name: "devices' own"},
		{User: "devices", Name: "devices' phone", Device: "phone", Forget: true, Ack: verify.AckSometimes},
		{User: "devices", Name: "devices' laptop", Device: "laptop", Ack: verify.AckNever},
	} {
		first := i % len(urls) // so that not all are with the same
		cfg.URLs = slices.Concat(urls[first:], urls[:first])
		c, _ := w.client(cfg)
		all = append(all, c)
		if !slices.Contains(users, cfg.User) {
			users = append(users, cfg.User)
		}
	}
	return users, all
}

// A killed gateway causes repeats and nothing else, whatever it was doing: while clients connect, during replay, live delivery or commits.
func TestGatewayKilledAtRandomPoints(t *testing.T) {
	streamstest.BesideOthers(t)
	server := streamstest.RunProcess(t)
	g := runGateway(t, "--nats", server.URL(), "--commit-interval", "50ms", "--max-msgs-per-user", "-1")
	w := newTown(t, server.URL())
	before, err := verify.Measure(t.Context(), w.nc, g.pid())
	if err != nil {
		t.Fatal(err)
	}
	oldPID := g.pid()
	users, clients := w.everyKind(g.url())
	// All that is stored is read again at each start: more of it would be a test of something else.
	w.publish(time.Duration(streamstest.Either(7, 20))*time.Millisecond, users)
	w.publish(time.Duration(streamstest.Either(11, 30))*time.Millisecond, users)
	kills := streamstest.Either(5, 200)
	for i := range kills {
		if i%2 == 0 {
			time.Sleep(rand.N(40 * time.Millisecond)) // clients are just coming
		} else {
			w.live(clients...)
			time.Sleep(rand.N(400 * time.Millisecond))
		}
		g.kill()
		g.start()
	}
	w.live(clients...)
	w.passes()
	if s := w.log.Stats(); s.Connections < kills/2*len(clients) {
		t.Errorf("that was no storm: %s", s)
	}
	if kills < 100 {
		return
	}
	before.Files[g.pid()] = before.Files[oldPID]
	w.waitForResources(before, g)
}

// waitForResources waits until gateways use no more resources than before the first client connected. A consumer of one that was killed goes after 30 s.
func (w *town) waitForResources(before verify.Resources, gateways ...*gateway) {
	w.t.Helper()
	var pids []int
	for _, g := range gateways {
		pids = append(pids, g.pid())
	}
	streamstest.Eventually(w.t, longer, func() error {
		ctx, cancel := context.WithTimeout(w.t.Context(), longer)
		defer cancel()
		now, err := verify.Measure(ctx, w.nc, pids...)
		if err != nil {
			return err
		}
		return now.Since(before)
	})
}

// What the embedded server acknowledged is on disk, so killing its process loses nothing.
func TestEmbeddedServerKilledWhilePublishing(t *testing.T) {
	streamstest.BesideOthers(t)
	port := strconv.Itoa(streamstest.FreePort(t))
	g := runGateway(t, "--data", t.TempDir(), "--nats-port", port, "--commit-interval", "50ms", "--max-msgs-per-user", "-1")
	w := newTown(t, "nats://127.0.0.1:"+port)
	users, clients := w.everyKind(g.url())
	for range 4 {
		w.publish(time.Millisecond, users) // or as fast as the disk is
	}
	for range streamstest.Either(3, 40) {
		time.Sleep(50*time.Millisecond + rand.N(300*time.Millisecond))
		g.kill()
		g.start()
	}
	w.live(clients...)
	w.quiet()
	// A client that connects only now receives everything from the beginning.
	late, _ := w.client(verify.ClientConfig{User: "keeps", Device: "late", Forget: true, Ack: verify.AckNever, URLs: []string{g.url()}})
	w.live(late)
	w.passes()
}

// An older copy of the data is put back while the gateway is down. The epoch stays, and seqs are used again: clients go back to where
// the gateway lets them start, and lack nothing of what is published from then on.
func TestDataPutBackBelowConnectedClients(t *testing.T) {
	port, data := strconv.Itoa(streamstest.FreePort(t)), filepath.Join(t.TempDir(), "data")
	g := runGateway(t, "--data", data, "--nats-port", port, "--commit-interval", "50ms")
	w := newTown(t, "nats://127.0.0.1:"+port)
	users := []string{"quiet-acks", "quiet-silent"}
	w.each(users)
	acks, _ := w.client(verify.ClientConfig{User: users[0], URLs: []string{g.url()}})
	silent, _ := w.client(verify.ClientConfig{User: users[1], Ack: verify.AckNever, URLs: []string{g.url()}})
	w.live(acks, silent)
	g.kill()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	g.start()
	w.each(users)
	w.each(users)
	w.complete()

	w.log.Replaced()
	g.kill()
	if err := errors.Join(os.RemoveAll(data), os.Rename(backup, data)); err != nil {
		t.Fatal(err)
	}
	g.start()
	streamstest.Eventually(t, longer, func() error {
		if s := w.log.Stats(); s.Gaps["stream_reset"] < 2 {
			return fmt.Errorf("both clients are to be sent a gap: %s", s)
		}
		return nil
	})
	for range 3 {
		w.each(users)
	}
	w.passes()
	if s := w.log.Stats(); s.Repeats > 4 { // of what the copy held
		t.Errorf("%s", s)
	}
	if epoch, seq := acks.Position(); seq < 7 { // the two users share the numbers 3 to 8
		t.Errorf("the client is at %d of %s, want 7 or 8", seq, epoch)
	}
}
