package streams

import (
	"fmt"
	"testing"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// A sweep ends where it is to end, also if the message there is gone and others follow.
func TestASweepEndsInAHole(t *testing.T) {
	nc := streamstest.Run(t).Connect(t)
	stream, err := Open(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := NewPublisher(nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	const end, all = 10, 30
	for i := range all {
		if _, err := publisher.User(t.Context(), fmt.Sprint("user", i%3), Notification{}); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := stream.js.Stream(t.Context(), stream.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.DeleteMsg(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	st, err := stream.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tail := NewTail(stream, TailConfig{})
	tail.ring = newRing(st.Epoch, 0, 1<<20)
	tail.ring.limits(st)
	tail.ring.advance(end)
	go tail.answerMarks(t.Context())
	reader := &turn{
		epoch: st.Epoch, subjects: []string{UserPrefix + "nobody"}, after: []uint64{0}, upTo: end, most: 64, given: make(chan struct{}),
	}
	before := nc.Stats().OutMsgs
	tail.sweep(t.Context(), tail.ring, []*turn{reader}, sweepSpan)
	if asked := nc.Stats().OutMsgs - before; reader.at != end || reader.err != nil || asked > 5 {
		t.Errorf("at %d, %v, after %d requests", reader.at, reader.err, asked)
	}
}

// However many messages a turn may have, what is held for its reader is bounded in bytes too.
func TestASweepHoldsFewLargeFrames(t *testing.T) {
	t.Parallel()
	nc := streamstest.Run(t).Connect(t)
	stream, err := Open(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	const all = 20
	for range all {
		if _, err := stream.Publisher().User(t.Context(), "alice", Notification{}); err != nil {
			t.Fatal(err)
		}
	}
	st, err := stream.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 1<<20)
	tail := NewTail(stream, TailConfig{Encode: func([]byte, *Message) []byte { return frame }})
	tail.ring = newRing(st.Epoch, 0, 1<<20)
	tail.ring.limits(st)
	tail.ring.advance(all)
	go tail.answerMarks(t.Context())
	for after := uint64(0); after < all; {
		w := &turn{
			epoch: st.Epoch, subjects: []string{UserPrefix + "alice"}, after: []uint64{after}, from: after, upTo: all, most: sweepBatch,
			given: make(chan struct{}),
		}
		tail.sweep(t.Context(), tail.ring, []*turn{w}, scanSpan)
		if n := len(w.entries); w.err != nil || n != 4 || w.at != after+4 {
			t.Fatalf("%d frames of 1 MiB behind %d, and it is at %d, %v", n, after, w.at, w.err)
		}
		after = w.at
	}
}
