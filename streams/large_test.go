package streams_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A message that is larger than what the tail and a batch ask for at once is read as any other, and those behind it are not late.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t, streamstest.WithConfig("max_payload: 64MB"))
	cfg := streams.Config{MaxNotification: streams.LargestNotification}
	encode := func(dst []byte, m *streams.Message) []byte { return fmt.Appendf(dst, "%d %d", m.Seq, len(m.Data)) }
	g := run(t, s.Connect(t), cfg, streams.TailConfig{Encode: encode})
	cold := run(t, s.Connect(t), cfg, streams.TailConfig{Encode: encode, MaxBytes: 1})
	var asked atomic.Int64
	tap, err := g.nc.Subscribe("$JS.API.CONSUMER.MSG.NEXT.>", func(*nats.Msg) { asked.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tap.Unsubscribe() }()
	var want []string
	for i, size := range streamstest.Either([]int{2 << 20, 9 << 20}, []int{2 << 20, 9 << 20, streams.LargestNotification}) {
		if _, err := g.js.Publish(testContext(t, patience), "notify.user.a", bytes.Repeat([]byte("x"), size)); err != nil {
			t.Fatal(err)
		}
		g.publish("a", "small")
		want = append(want, fmt.Sprintf("%d %d", 2*i+1, size), fmt.Sprintf("%d 5", 2*i+2))
		g.reached()
		cold.reached()
	}
	for name, g := range map[string]*gateway{"memory": g, "the stream": cold} {
		if got := frames(g.read(g.userReader(0, "a"))); !slices.Equal(got, want) {
			t.Errorf("from %s: %q, want %q", name, got, want)
		}
	}
	if page, err := g.stream.Newest(testContext(t, patience), "notify.user.a", 0, 10, 1<<30); err != nil || len(page.Messages) != len(want) {
		t.Errorf("the list has %d messages, %v", len(page.Messages), err)
	}
	if n := asked.Load(); n > 100 {
		t.Errorf("two tails asked %d times for %d messages", n, len(want))
	}
}

// NATS stores no message that is larger, whatever it carries: a limit that nothing can reach is refused.
func TestNoLimitPastWhatNATSStores(t *testing.T) {
	s := streamstest.Run(t, streamstest.WithConfig("max_payload: 64MB"))
	if _, err := streams.Open(t.Context(), s.Connect(t), streams.Config{MaxNotification: 60 << 20}); err == nil || !strings.Contains(err.Error(), "at most 33488896") {
		t.Errorf("60 MiB: %v", err)
	}
}
