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
