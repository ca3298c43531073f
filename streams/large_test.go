package streams_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A message that is larger than what the tail and a batch ask for at once is read as any other, and those behind it are not late.
func TestLargeMessages(t *testing.T) {
	s := streamstest.Run(t, streamstest.WithConfig("max_payload: 64MB"))
	cfg := streams.Config{MaxNotification: streams.LargestNotification}
	encode := func(dst []byte, m *streams.Message) []byte { return fmt.Appendf(dst, "%d %d", m.Seq, len(m.Data)) }
	g := run(t, s.Connect(t), cfg, streams.TailConfig{Encode: encode})
	cold := run(t, s.Connect(t), cfg, streams.TailConfig{Encode: encode, MaxBytes: 1})
	consumers := func() (names []string) {
		for name := range g.jetstream().ConsumerNames(t.Context()).Name() {
			names = append(names, name)
		}
		return names
	}
	before := consumers()
	var want []string
	for i, size := range []int{2 << 20, 9 << 20, streams.LargestNotification} {
		data := bytes.Repeat([]byte("x"), size)
		if _, err := g.pub.User(testContext(t, patience), "a", streams.Notification{Data: data}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		g.publish("a", "small")
		want = append(want, fmt.Sprintf("%d %d", 2*i+1, len(data)), fmt.Sprintf("%d 5", 2*i+2))
		g.reached()
		cold.reached()
		t.Logf("%d MB: %s", size, time.Since(began))
	}
	for name, g := range map[string]*gateway{"memory": g, "the stream": cold} {
		if got := frames(g.read(g.userReader(0, "a"))); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("from %s: %q, want %q", name, got, want)
		}
	}
	if page, err := g.stream.Newest(t.Context(), "notify.user.a", 0, 10, 1<<30); err != nil || len(page.Messages) != len(want) {
		t.Errorf("the list has %d messages, %v", len(page.Messages), err)
	}
	if after := consumers(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("consumers %v became %v", before, after)
	}
}

// NATS stores no message that is larger, whatever it carries: a limit that nothing can reach is refused.
func TestNoLimitPastWhatNATSStores(t *testing.T) {
	s := streamstest.Run(t, streamstest.WithConfig("max_payload: 64MB"))
	if _, err := streams.Open(t.Context(), s.Connect(t), streams.Config{MaxNotification: 60 << 20}); err == nil || !strings.Contains(err.Error(), "at most 33488896") {
		t.Errorf("60 MiB: %v", err)
	}
}
