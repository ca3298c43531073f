package streams

import (
	"fmt"
	"maps"
	"testing"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// A turn with many subjects is read in slices, each of a bounded number of requests.
func TestATurnIsReadInSlices(t *testing.T) {
	t.Parallel()
	nc := streamstest.Run(t).Connect(t)
	stream, err := Open(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := NewPublisher(nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	const topics = 40 // half of which are active
	w := &turn{given: make(chan struct{}), batches: make([]*batch, topics), upTo: topics / 2}
	for i := range topics {
		subject, err := TopicSubject(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		w.subjects, w.after, w.wanted = append(w.subjects, subject), append(w.after, 0), append(w.wanted, true)
		if i%2 == 0 {
			if _, err := publisher.Topic(t.Context(), fmt.Sprint(i), Notification{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	st, err := stream.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.epoch = st.Epoch
	tail := NewTail(stream, TailConfig{})
	tail.ring = newRing(st.Epoch, 0, 1<<20)
	tail.replicas.Store(1)
	go tail.answerMarks(t.Context())
	slices := 0
	for over := false; !over; slices++ {
		before := nc.Stats().OutMsgs
		_, over = tail.readSlice(t.Context(), w, &ColdRead{})
		if asked := nc.Stats().OutMsgs - before; asked > 2*coldSlice+5 { // a subscription's end is one too, and the state at the end
			t.Errorf("%d messages to NATS in one slice", asked)
		}
	}
	found := 0
	for i, b := range w.batches {
		if found += len(b.msgs); b.err != nil || len(b.msgs) != (i+1)%2 {
			t.Errorf("subject %d: %d messages, %v", i, len(b.msgs), b.err)
		}
	}
	if slices != 4 { // what is active, what to do, 16 and 4 of them
		t.Errorf("%d slices, and %d messages", slices, found)
	}
}

// That headers of a publisher cannot be read hides no subject. Each message is followed by one for somebody else.
func TestSubjectsWithUnreadableHeadersAreNotEmpty(t *testing.T) {
	t.Parallel()
	r := openReaders(t, Config{MaxMsgsPerSubject: -1})
	var topics []string
	for i := range 4 {
		topics = append(topics, fmt.Sprint(TopicPrefix, i))
	}
	for i, block := range []string{"", "NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n", "NATS/1.0\r\nTidings-Kind: a\r\n\r\n"} {
		r.publish(topics[i], block, "x", 1)
	}
	st := r.state()
	last, upTo, err := r.stream.lastBehind(t.Context(), topics, 0)
	if want := map[string]uint64{topics[0]: 1, topics[1]: 3, topics[2]: 5}; err != nil || !maps.Equal(last, want) || upTo != st.Last {
		t.Errorf("%v up to %d, %v; want %v up to %d", last, upTo, err, want, st.Last)
	}
	if last, _, err := r.stream.lastBehind(t.Context(), topics, 1); err != nil || len(last) != 2 {
		t.Errorf("behind the first: %v, %v", last, err)
	}
	r.publish(topics[3], "NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n", "x", 1)
	r.publish(topics[1], "NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n", "x", 1)
	if last, _, err := r.stream.lastBehind(t.Context(), topics, 5); err == nil {
		t.Errorf("two in a row: %v", last)
	}
}

// A reader of many subjects asks for fewer messages of each, and for as many bytes less, since all of that is held.
func TestAReadOfFewMessagesHoldsFewBytes(t *testing.T) {
	t.Parallel()
	stream, err := Open(t.Context(), streamstest.Run(t).Connect(t), Config{})
	if err != nil {
		t.Fatal(err)
	}
	const all = 20
	for range all {
		if _, err := stream.Publisher().User(t.Context(), "alice", Notification{Data: make([]byte, 100<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	for batch, want := range map[int]int{coldBatch: all, coldBatch / 10: 4} {
		stream.pace.bytes.Store(paceMost)
		msgs, more, err := stream.readAfter(t.Context(), UserPrefix+"alice", 0, batch)
		if err != nil || more != (len(msgs) < all) || len(msgs) > want+1 || len(msgs) < min(want, all) {
			t.Errorf("asked for %d: %d messages of 100 KiB, more is %t, %v; want %d", batch, len(msgs), more, err, want)
		}
	}
}
