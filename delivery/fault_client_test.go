package delivery_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A client that stops reading, beside many that go on: theirs arrive, its connection ends, and what it missed comes when it
// returns.
func TestAClientThatStopsReadingBesideManyThatDoNot(t *testing.T) {
	t.Parallel()
	others := streamstest.Either(50, 300)
	server := streamstest.Run(t)
	s := newSiege(t, server.URL())
	n := s.gateway(t, server.URL(), func(c *nodeConfig) {
		c.delivery.Ping, c.delivery.WriteWithin = calmPing, time.Second
		c.tail.MaxBytes = 500 << 10
	})
	for i := range others {
		s.client(t, verify.ClientConfig{User: fmt.Sprint("reader-", i)})
	}
	s.live(t)
	asleep := s.client(t, verify.ClientConfig{User: "sleeper", Dial: narrowDial, URLs: []string{n.narrow(t)}})
	s.live(t)

	asleep.Pause()
	small, large := s.publisher(t, "small"), s.publisher(t, "large")
	large.Pad = 50 << 10
	before := s.log.Stats()
	for i := range 30 { // more than sockets and Tail hold together
		post(t, large, "sleeper")
		if i%3 == 0 {
			if err := small.Topic(t.Context(), "all"); err != nil {
				t.Fatal(err)
			}
		}
	}
	streamstest.Eventually(t, recovery, func() error {
		if now := s.log.Stats(); now.Messages < before.Messages+10*others {
			return fmt.Errorf("those who read have %d messages of %d: %s", now.Messages-before.Messages, 10*others, now)
		}
		return nil
	})
	n.connected(t, "sleeper", 0)
	if now := s.log.Stats(); now.Connections != others+1 || len(now.Closes) > 0 {
		t.Errorf("others were ended too: %s", now)
	}
	asleep.Resume()
	end := s.calm(t)
	if end.Closes[4508]+end.Closes[1006] == 0 {
		t.Errorf("the one that slept was not told that it was ended: %s", end)
	}
}

// The position is what was acknowledged, neither more nor less, however seldom a client does, and wherever its connections end.
func TestThePositionIsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	s := newSiege(t, server.URL())
	n := s.gateway(t, server.URL())
	users := []string{"never", "seldom", "always"}
	by := map[string]*guest{}
	for user, policy := range map[string]verify.AckPolicy{"never": verify.AckNever, "seldom": verify.AckSometimes, "always": verify.AckEach} {
		by[user] = s.client(t, verify.ClientConfig{User: user, Ack: policy, Forget: true})
	}
	s.live(t)
	s.publishing(t, 2, 2*time.Millisecond, users, nil)
	for range streamstest.Either(5, 50) {
		s.goesOn(t, 60)
		for _, g := range by {
			g.Drop()
		}
	}
	s.goesOn(t, 200) // an acknowledgement may have gone down with its connection, and who seldom acknowledges must once more
	end := s.calm(t)
	if end.Repeats == 0 {
		t.Errorf("nobody got again what was not acknowledged: %s", end)
	}
	exact := func(when string) {
		t.Helper()
		s.acknowledged(t, by)
		floors, _, err := s.cursors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range users {
			acked, _ := by[user].Acknowledged()
			_, last := by[user].Position()
			// One who has acknowledged everything is carried with the stream.
			if floor := floors[user]; floor < acked || floor > acked && (user == "never" || floor > last) {
				t.Errorf("%s %s is at %d, and has acknowledged %d of %d", when, user, floor, acked, last)
			}
		}
	}
	exact("while connected")
	for _, g := range by {
		g.leave()
	}
	n.connected(t, "never", 0)
	exact("after they left")
	n.stop()
	exact("after the gateway ended")
}

// A user who connects and drops again a hundred times a second leaves the right position, and nothing else.
func TestAUserWhoComesAndGoesLeavesNothingBehind(t *testing.T) {
	const clients = 10
	server := streamstest.RunProcess(t) // whose goroutines are not among ours
	s := newSiege(t, server.URL())
	n := s.gateway(t, server.URL())
	s.client(t, verify.ClientConfig{User: "first"})
	s.live(t)
	s.guests[0].Leave()
	s.guests[0].leave()
	n.connected(t, "first", 0)
	s.guests = nil
	before := runtime.NumGoroutine()

	for i := range clients {
		s.client(t, verify.ClientConfig{Name: fmt.Sprint("c", i), User: "alice", Forget: i%2 == 0, Backoff: time.Millisecond})
	}
	s.live(t)
	p := s.publisher(t, "p")
	ctx, cancel := context.WithCancel(t.Context())
	published := make(chan struct{})
	go func() {
		defer close(published)
		p.Run(ctx, 5*time.Millisecond, []string{"alice"}, []string{"all"})
	}()
	for enough := s.log.Stats().Connections + streamstest.Either(60, 1500); s.log.Stats().Connections < enough; time.Sleep(10 * time.Millisecond) {
		s.guests[rand.IntN(clients)].Drop()
	}
	cancel()
	<-published
	s.live(t)
	s.calm(t)
	last := uint64(0)
	for _, g := range s.guests {
		acked, _ := g.Acknowledged()
		last = max(last, acked)
		g.leave()
	}
	n.connected(t, "alice", 0)
	streamstest.Eventually(t, recovery, func() error {
		floors, st, err := s.cursors(t.Context())
		if err != nil {
			return err
		}
		if floors["alice"] < last || floors["alice"] > st.Last {
			return fmt.Errorf("alice is at %d, and acknowledged %d of %d", floors["alice"], last, st.Last)
		}
		return s.onlyConsumers(t, "tidings-", "user-alice", "user-first")
	})
	streamstest.Eventually(t, recovery, func() error {
		if now := runtime.NumGoroutine(); now > before+10 { // NATS clients begin some at their first request
			stacks := make([]byte, 1<<20)
			return fmt.Errorf("%d goroutines, before %d:\n%s", now, before, stacks[:runtime.Stack(stacks, true)])
		}
		return nil
	})
}

// onlyConsumers says whether the stream has these consumers and no others; a name may be the beginning of one.
func (b *backend) onlyConsumers(t *testing.T, want ...string) error {
	t.Helper()
	stream, err := b.js.Stream(t.Context(), streams.DefaultName)
	if err != nil {
		return err
	}
	var have []string
	list := stream.ConsumerNames(t.Context())
	for name := range list.Name() {
		have = append(have, name)
	}
	for _, prefix := range want {
		found := 0
		for _, name := range have {
			if strings.HasPrefix(name, prefix) {
				found++
			}
		}
		if found != 1 {
			return fmt.Errorf("%d consumers %s: %q", found, prefix, have)
		}
	}
	if len(have) != len(want) {
		return fmt.Errorf("consumers %q, want %q", have, want)
	}
	return list.Err()
}
