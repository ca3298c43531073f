package streams_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A stream that is deleted while a gateway reads it is created again once the server has finished the deletion: its files stay, and
// what is published to it survives a restart.
func TestARecreatedStreamKeepsItsFiles(t *testing.T) {
	s := streamstest.Run(t)
	g := run(t, s.Connect(t), streams.Config{}, streams.TailConfig{})
	// nats-server removes the rest of a purge when it deletes a stream, which here makes that long.
	rest := filepath.Join(s.Dir(), "jetstream", "$G", "streams", g.stream.Name(), "__msgs__")
	if err := os.Mkdir(rest, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		if err := os.WriteFile(filepath.Join(rest, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.publish("a", "old")
	epoch := g.tail.Epoch()
	began := time.Now()
	s.DeleteStream(t, g.stream.Name())
	t.Logf("deleted within %s", time.Since(began))
	streamstest.Eventually(t, patience, func() error {
		if now := g.tail.Epoch(); now == epoch {
			return fmt.Errorf("still epoch %s", now)
		}
		return nil
	})
	if seq := g.publish("a", "new"); seq != 1 {
		t.Errorf("the new stream begins with %d", seq)
	}
	s.Restart()
	streamstest.Eventually(t, patience, func() error { // or the gateway has not noticed yet
		_, err := g.stream.State(t.Context())
		return err
	})
	g.wants(g.userReader(0, "a"), "new")
}

// What a deletion that failed has left is no part of the next stream.
func TestLeftoversOfADeletedStreamArePurged(t *testing.T) {
	s := streamstest.Run(t)
	g := open(t, s.Connect(t), streams.Config{})
	blocks := filepath.Join(s.Dir(), "jetstream", "$G", "streams", g.stream.Name(), "msgs", "1.blk")
	g.publish("a", "old")
	g.publish("b", "old")
	left, err := os.ReadFile(blocks)
	if err != nil {
		t.Fatal(err)
	}
	s.DeleteStream(t, g.stream.Name())
	if err := os.MkdirAll(filepath.Dir(blocks), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blocks, left, 0o600); err != nil {
		t.Fatal(err)
	}
	g = open(t, s.Connect(t), streams.Config{})
	if stored := g.stored(0, userSubject(t, "a"), userSubject(t, "b")); len(stored) > 0 {
		t.Errorf("the new stream holds %q", stored)
	}
	g.publish("a", "new")
	if stored := g.stored(0, userSubject(t, "a")); !slices.Equal(stored, []string{"3 notify.user.a new"}) {
		t.Errorf("the new stream holds %q", stored)
	}
}
