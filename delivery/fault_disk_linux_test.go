package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A disk that is full refuses publishers, and costs those who are connected nothing. nats-server 2.15 gives a file up that it could
// not write: it must be started again once there is space. Then all goes on, and nothing that was acknowledged is lost.
func TestADiskThatIsFull(t *testing.T) {
	t.Parallel()
	disk := streamstest.NewDisk(t, 24<<20)
	server := streamstest.RunProcess(t, streamstest.WithDir(filepath.Join(disk.Dir, "store")), streamstest.WithMaxStore(1<<30))
	s := newSiege(t, server.URL())
	n := s.gateway(t, server.URL())
	users := names("user-", 3)
	by := map[string]*guest{}
	for _, user := range users {
		by[user] = s.client(t, verify.ClientConfig{User: user})
	}
	s.live(t)
	s.publishing(t, 2, 5*time.Millisecond, users, []string{"all"})
	s.goesOn(t, 50)

	disk.Fill(0)
	refused := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := n.publish.User(ctx, "nobody", streams.Notification{Data: make([]byte, 100<<10)})
		if err == nil {
			return errors.New("a publish is acknowledged though nothing can be stored")
		}
		return nil
	}
	streamstest.Eventually(t, recovery, refused)
	before := s.log.Stats()
	during(t, streamstest.Either(500*time.Millisecond, 5*time.Second), func() error {
		if now := s.log.Stats(); now.Connections != before.Connections || len(now.Closes) > 0 {
			return fmt.Errorf("connections did not stay: %s", now)
		}
		return refused()
	})
	by["user-0"].Drop() // one who comes again is served what there is
	streamstest.Eventually(t, recovery, func() error {
		if now := s.log.Stats(); now.Live != before.Live+1 {
			return fmt.Errorf("one did not come again: %s", now)
		}
		return nil
	})
	disk.Empty()
	if refused() != nil { // no write had failed yet, on a machine that is slow
		t.Log("space alone was enough")
	}
	server.Kill()
	server.Restart()
	s.goesOn(t, 50)
	s.client(t, verify.ClientConfig{User: "newcomer"})
	s.live(t)
	if end := s.calm(t); end.Acknowledged < before.Acknowledged+10 {
		t.Errorf("publishing did not go on: %s", end)
	}
	s.acknowledged(t, by)
}
