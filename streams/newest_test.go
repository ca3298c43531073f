package streams_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// newest reads pages of a subject, by so many messages, to the end, and returns the seqs of each.
func (g *gateway) newest(subject string, most, maxBytes int) (pages [][]uint64) {
	g.Helper()
	for before := uint64(0); ; {
		p, err := g.stream.Newest(testContext(g, patience), subject, before, most, maxBytes)
		if err != nil {
			g.Fatal(err)
		}
		var seqs []uint64
		for _, m := range p.Messages {
			if m.Subject != subject {
				g.Errorf("%d is of %s", m.Seq, m.Subject)
			}
			seqs = append(seqs, m.Seq)
		}
		pages = append(pages, seqs)
		if !p.More {
			return pages
		}
		if len(seqs) == 0 {
			g.Fatalf("a page that is empty, and not the last: %v", pages)
		}
		before = seqs[len(seqs)-1]
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: 7})
	alice := userSubject(t, "alice")
	check := func(most, maxBytes int, want string) {
		t.Helper()
		if got := fmt.Sprint(g.newest(alice, most, maxBytes)); got != want {
			t.Errorf("%d a page, %d bytes: %s, want %s", most, maxBytes, got, want)
		}
	}
	const all = 1 << 20
	check(3, all, "[[]]")
	g.publish("bob", "")
	check(3, all, "[[]]")
	for i := range 10 { // 2, 4, … 20, of which the stream keeps 7
		g.publish("alice", strings.Repeat("x", 10*i))
		g.publish("bob", "")
	}
	check(10, all, "[[20 18 16 14 12 10 8]]")
	check(7, all, "[[20 18 16 14 12 10 8]]")
	check(3, all, "[[20 18 16] [14 12 10] [8]]")
	check(1, all, "[[20] [18] [16] [14] [12] [10] [8]]")
	check(10, 150, "[[20 18] [16 14 12] [10 8]]")
	check(10, 1, "[[20] [18] [16] [14] [12] [10] [8]]")
	for _, seq := range []uint64{20, 8, 14} {
		if err := g.jetstream().SecureDeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	check(2, all, "[[18 16] [12 10]]")
	// From a seq, whether there is a message or not.
	for before, want := range map[uint64]string{1: "[]", 2: "[]", 10: "[]", 11: "[10]", 12: "[10]", 17: "[16 12 10]", 1000: "[18 16 12 10]"} {
		p, err := g.stream.Newest(testContext(t, patience), alice, before, 10, all)
		var seqs []uint64
		for _, m := range p.Messages {
			seqs = append(seqs, m.Seq)
		}
		if err != nil || p.More || p.Epoch == "" || fmt.Sprint(seqs) != want {
			t.Errorf("before %d: %v, %+v, want %s", before, err, p, want)
		}
	}
}
