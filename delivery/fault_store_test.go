package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A store that is lost, or is an older copy of itself, is another world: every client is told, and nothing of the old one is
// carried into it.
func TestAnotherStore(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(t *testing.T, s *siege, server *streamstest.Process){
		"an empty one": func(t *testing.T, s *siege, server *streamstest.Process) {
			s.log.Replaced()
			server.Kill()
			if err := os.RemoveAll(filepath.Join(server.Dir(), "jetstream")); err != nil {
				t.Error(err)
			}
		},
		"an older copy": func(t *testing.T, s *siege, server *streamstest.Process) {
			server.Kill()
			backup := filepath.Join(t.TempDir(), "backup")
			if err := os.CopyFS(backup, os.DirFS(server.Dir())); err != nil {
				t.Error(err)
			}
			server.Restart()
			s.goesOn(t, 100)
			s.log.Replaced()
			server.Kill()
			if err := errors.Join(os.RemoveAll(server.Dir()), os.CopyFS(server.Dir(), os.DirFS(backup))); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := streamstest.RunProcess(t)
			s := newSiege(t, server.URL())
			late := func(c *nodeConfig) { c.cursors.Interval = time.Second } // much is not committed at any time
			s.gateway(t, server.URL(), late)
			s.gateway(t, server.URL(), late)
			users := names("user-", 4)
			by := map[string]*guest{}
			for _, user := range users {
				by[user] = s.client(t, verify.ClientConfig{User: user})
				by[user+"@tv"] = s.client(t, verify.ClientConfig{Name: user + "'s TV", User: user, Device: "tv", Ack: verify.AckSometimes})
			}
			s.live(t)
			s.publishing(t, 2, 3*time.Millisecond, users, []string{"all"})
			s.goesOn(t, 300)

			replace(t, s, server)
			server.Restart()
			streamstest.Eventually(t, recovery, func() error {
				if now := s.log.Stats(); now.Closes[4510] < len(s.guests) || now.Gaps["stream_reset"] < len(s.guests) {
					return fmt.Errorf("%d clients are to be told: %s", len(s.guests), now)
				}
				return nil
			})
			s.live(t)
			s.goesOn(t, 200)
			end := s.calm(t)
			if end.Gaps["stream_reset"] > len(s.guests) {
				t.Errorf("some were told twice: %s", end)
			}
			s.acknowledged(t, by)
		})
	}
}

// What was acknowledged while NATS was away is not committed into an older copy of the store that comes back: there the position
// lies behind the stream's end, and what is stored next would be skipped. It takes the Tail up to half a second to find out.
func TestNothingIsCommittedIntoAnOlderStore(t *testing.T) {
	t.Parallel()
	for i := range streamstest.Either(1, 8) { // it takes luck to see it: a commit that is due within that time, and none that waits for an answer
		t.Run(fmt.Sprint(i), testNothingIsCommitted)
	}
}

func testNothingIsCommitted(t *testing.T) {
	server := streamstest.RunProcess(t)
	s := newSiege(t, server.URL())
	proxy := streamstest.RunProxy(t, server.URL())
	s.gateway(t, proxy.URL(), func(c *nodeConfig) { c.cursors.Interval = 1500 * time.Millisecond })
	users := names("user-", 20)
	for _, user := range users {
		s.client(t, verify.ClientConfig{User: user})
	}
	s.live(t)
	p := s.publisher(t, "p")
	came := func(messages int) {
		t.Helper()
		streamstest.Eventually(t, recovery, func() error {
			if now := s.log.Stats(); now.Messages < messages {
				return fmt.Errorf("want %d messages: %s", messages, now)
			}
			return nil
		})
	}
	for _, user := range users { // so that their next commits are spread over a while
		post(t, p, user)
		time.Sleep(50 * time.Millisecond)
	}
	came(len(users))

	server.Kill()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(server.Dir())); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	post(t, p, users...)
	came(2 * len(users))
	proxy.Cut() // the newest acknowledgements are not committed yet
	s.log.Replaced()
	server.Kill()
	if err := os.RemoveAll(server.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(server.Dir(), os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	watched := s.watch(t)
	proxy.Restore()
	streamstest.Eventually(t, recovery, func() error {
		if now := s.log.Stats(); now.Gaps["stream_reset"] < len(s.guests) {
			return fmt.Errorf("%d clients are to be told: %s", len(s.guests), now)
		}
		return nil
	})
	if looks, err := watched(); err != nil || looks == 0 {
		t.Errorf("looked at the positions %d times: %v", looks, err)
	}
	s.calm(t)
}

// watch looks at positions until the returned function is called: none may ever lie behind the stream's end, or what is stored
// next would be skipped.
func (b *backend) watch(t *testing.T) func() (looks int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	var looks int
	var wrong error
	watcher.Go(func() {
		for ctx.Err() == nil && wrong == nil {
			try, done := context.WithTimeout(ctx, time.Second)
			floors, st, err := b.cursors(try)
			done()
			if err == nil {
				looks++
			}
			for cursor, floor := range floors {
				if floor > st.Last {
					wrong = fmt.Errorf("%s is at %d of a stream that ends at %d", cursor, floor, st.Last)
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	stop := func() (int, error) {
		cancel()
		watcher.Wait()
		return looks, wrong
	}
	t.Cleanup(func() { _, _ = stop() })
	return stop
}
