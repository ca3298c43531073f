package streams

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// A leader that was just elected may have less than a consumer on another server has given: it is waited for. If it still has less when no
// other can answer, the stream went back in time.
func TestAYoungLeaderIsNotABackup(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("waits until a leader is believed: TIDINGS_LONG=1")
	}
	const long = 90 * time.Second
	c := streamstest.RunCluster(t, 3)
	nc := c.Connect(t)
	var stream *Stream
	streamstest.Eventually(t, long, func() (err error) { // each node is to hear of the others first
		stream, err = Open(t.Context(), nc, Config{Replicas: 3})
		return err
	})
	tail := NewTail(stream, TailConfig{Poll: 100 * time.Millisecond, Encode: func(dst []byte, m *Message) []byte { return append(dst, m.Data...) }})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tail.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-tail.Ready():
	case <-time.After(long):
		t.Fatal("the tail does not get ready")
	}
	doubts := func() {
		t.Helper()
		streamstest.Eventually(t, long, func() error {
			if err := tail.Check(); !errors.Is(err, errNotSeen) {
				return fmt.Errorf("what it has read is not in doubt: %w", err)
			}
			return nil
		})
	}
	epoch := tail.Epoch()

	c.StepDown(DefaultName)
	const ahead = 200
	tail.current().advance(ahead)
	doubts()
	for range ahead {
		if _, err := nc.Request("notify.user.a", []byte("x"), long); err != nil {
			t.Fatal(err)
		}
	}
	streamstest.Eventually(t, long, tail.Check)
	if now := tail.Epoch(); now != epoch {
		t.Fatalf("the leader has caught up, and the epoch is %s after %s", now, epoch)
	}

	c.StepDown(DefaultName)
	tail.current().advance(2 * ahead)
	doubts()
	streamstest.Eventually(t, long, func() error {
		if tail.Epoch() == epoch {
			return errors.New("the epoch goes on")
		}
		return tail.Check()
	})
}
