package streams_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// fixed makes frames of one size, so that it is known how many the Tail holds.
func fixed(dst []byte, m *streams.Message) []byte {
	return fmt.Appendf(dst, "%09d %-22s %-8s", m.Seq, m.Subject, m.Data)
}

// A reader is held where memory ends: what it reads next is evicted just before, just after, or while it reads.
func TestAReaderAtTheEndOfMemory(t *testing.T) {
	t.Parallel()
	rounds := streamstest.Either(50, 1000)
	const seed, holds = 4, 50
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	size := len(fixed(nil, &streams.Message{})) + 64 // each counts 64 bytes more
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1},
		streams.TailConfig{Encode: fixed, MaxBytes: int64(holds * size)})
	requests, err := g.nc.SubscribeSync("$JS.API.DIRECT.GET.>")
	if err != nil {
		t.Fatal(err)
	}
	asked := func() int {
		n, _, _ := requests.Pending()
		return n
	}

	var want []string
	last := uint64(0)
	publish := func() {
		user := string("ab"[rng.IntN(2)])
		last++
		data := fmt.Sprint(last)
		if seq := g.publish(user, data); seq != last {
			t.Fatalf("published at %d, want %d", seq, last)
		}
		if user == "a" {
			want = append(want, string(fixed(nil, &streams.Message{Seq: last, Subject: "notify.user.a", Data: []byte(data)})))
		}
	}
	r := g.userReader(0, "a")
	var got []streams.Entry
	fromMemory, fromStream := 0, 0
	for range rounds {
		// One more than it holds, and the reader's next message is the newest that was evicted.
		for edge := r.Position() + holds + rng.Uint64N(3); last < edge; {
			publish()
		}
		g.reached()
		before, most := asked(), 1+rng.IntN(8)
		var reading sync.WaitGroup
		reading.Go(func() {
			var err error
			if got, err = r.Read(g.Context(), got, most); err != nil {
				t.Error(err)
			}
		})
		for range rng.IntN(4) {
			publish()
		}
		reading.Wait()
		if asked() > before {
			fromStream++
		} else {
			fromMemory++
		}
	}
	g.reached()
	got = append(got, g.read(r)...)
	if !slices.Equal(frames(got), want) {
		t.Errorf("read %d messages, want %d: %s", len(got), len(want), difference(frames(got), want))
	}
	if fromMemory < rounds/10 || fromStream < rounds/10 {
		t.Errorf("read %d times from memory and %d times from the stream: that is not the boundary", fromMemory, fromStream)
	}
}

// difference names the first place where two lists part.
func difference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("at %d nothing, want %q", i, want[i])
		case i >= len(want):
			return fmt.Sprintf("at %d %q too many", i, got[i])
		case got[i] != want[i]:
			return fmt.Sprintf("at %d %q, want %q", i, got[i], want[i])
		}
	}
	return "none"
}
