package streams_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A notification that the NATS server would not carry is refused before nats.go knows of it, which keeps what it refuses itself.
func TestPublishMoreThanTheServerCarries(t *testing.T) {
	t.Parallel()
	const carried = 8 << 10
	g := open(t, streamstest.Run(t, streamstest.WithConfig("max_payload: 8KB")).Connect(t), streams.Config{})
	ctx := testContext(t, patience)
	for _, n := range []streams.Notification{
		{Data: make([]byte, carried+1)},
		{Data: make([]byte, carried)}, // headers count
		{Data: make([]byte, carried-1000), Kind: strings.Repeat("k", 1000)},
	} {
		results := g.pub.Users(ctx, []string{"alice", "bob"}, n)
		for _, r := range results {
			if !errors.Is(r.Err, streams.ErrTooLarge) || !strings.Contains(r.Err.Error(), "raise its max_payload") {
				t.Errorf("%d bytes: %v", len(n.Data), r.Err)
			}
		}
	}
	if kept := streamstest.Requests(t, g.nc); kept != 0 {
		t.Errorf("nats.go keeps %d requests", kept)
	}
	// To the byte: what the server carries is stored.
	most := func(bytes int) error {
		_, err := g.pub.User(ctx, "alice", streams.Notification{ID: fmt.Sprint(bytes), Data: make([]byte, bytes)})
		return err
	}
	least := carried - 1000
	for most(least+1) == nil {
		least++
	}
	stored, err := g.jetstream().GetLastMsgForSubject(ctx, userSubject(t, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	for _, added := range []string{jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer} {
		stored.Header.Del(added) // by the server to its answer
	}
	whole := &nats.Msg{Header: stored.Header, Data: stored.Data}
	if whole.Size() != carried {
		t.Errorf("%d bytes with headers are the most that can be published, the server carries %d", whole.Size(), carried)
	}
}

// While NATS is away nats.go buffers what is published, up to a limit. What it would refuse past that is not handed to it.
func TestPublishMoreThanIsBuffered(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t)
	g := open(t, s.Connect(t, nats.ReconnectBufSize(1)), streams.Config{})
	s.Stop()
	streamstest.Eventually(t, patience, func() error {
		if !g.nc.IsReconnecting() {
			return errors.New("the connection has not noticed")
		}
		return nil
	})
	if err := g.nc.Publish("x", nil); err != nil { // which fills the buffer
		t.Fatal(err)
	}
	_, err := g.pub.User(testContext(t, 200*time.Millisecond), "alice", streams.Notification{})
	if !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("while the buffer is full: %v", err)
	}
	if kept := streamstest.Requests(t, g.nc); kept != 0 {
		t.Errorf("nats.go keeps %d requests", kept)
	}
	s.Restart()
	if _, err := g.pub.User(testContext(t, patience), "alice", streams.Notification{}); err != nil {
		t.Errorf("once NATS is back: %v", err)
	}
}
