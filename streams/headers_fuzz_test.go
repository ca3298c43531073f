package streams

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// Whatever header block and name a publisher stores, all readers give the same message, and nobody else is delayed.
func FuzzReaders(f *testing.F) {
	for _, c := range blocks {
		f.Add("alice", c.block, c.data)
	}
	for _, name := range []string{"*", ">", "a.b", "%41", "%zz", "ü", "\x00", "$JS", "a*", ">a", strings.Repeat("n", 500)} {
		f.Add(name, "NATS/1.0\r\nTidings-Id: i\r\n\r\n", "x")
		f.Add(name, "NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n", "x")
	}
	r := openReaders(f, Config{MaxMsgsPerSubject: -1})
	f.Fuzz(func(t *testing.T, name, block, data string) {
		// A token has no spaces, nothing may expire between two reads, and a message is dropped that is only to be traced.
		if name == "" || strings.ContainsAny(name, " \t\r\n\f") || len(name)+len(block)+len(data) > 4000 ||
			strings.Contains(block, "Nats-TTL") || strings.Contains(block, "Nats-Trace") || strings.Contains(block, "traceparent") {
			return
		}
		r.TB = t
		subject := UserPrefix + name
		interrupted := r.interruptions()
		before := r.publish(subject, block, data, 1)
		if r.interruptions() > interrupted { // that may be the machine's fault, once
			if r.publish(subject, block, data, 10); r.interruptions() > interrupted+5 {
				t.Errorf("%q, %q: the tails are interrupted", name, block)
			}
		}
		if got := r.follow(t.Context(), r.warm, otherUser, r.state().Last-1); len(got) != 1 {
			t.Errorf("%q, %q: the next user gets %q", name, block, got)
		}
		if !canonical(subject) {
			return // nobody reads it
		}
		tail, single, scan, list := r.read(subject, before.Last)
		for reader, got := range map[string][]string{"cold read": single, "batch scan": scan, "list": list} {
			if !slices.Equal(got, tail) && !endUnknown(block) {
				t.Errorf("%q, %q: the %s gives %q, the tail %q", name, block, reader, got, tail)
			}
		}
	})
}

// endUnknown reports whether a direct get cannot tell that the block could not be read: the server writes over its last two bytes, and what it
// writes completes it, or is lost in a line without a name. The tail gives such a message without its headers, the others with them.
func endUnknown(block string) bool {
	const line = "NATS/1.0"
	if i := strings.IndexByte(block, '\r'); strings.HasPrefix(block, line) && i > len(line) {
		block = line + block[i:] // the server stores no status
	}
	if _, err := nats.DecodeHeadersMsg([]byte(block)); err == nil || len(block) <= 2 {
		return false
	}
	kept := block[:len(block)-2]
	if last := kept[strings.LastIndexByte(kept, '\n')+1:]; strings.HasPrefix(last, ":") {
		kept += "\n"
	}
	_, err := nats.DecodeHeadersMsg([]byte(kept + "\r\n"))
	return err == nil
}

// Blocks made of what matters to those who read them, many in one stream, so that each has bad neighbours.
func TestRandomHeaderBlocks(t *testing.T) {
	t.Parallel()
	const alice = UserPrefix + "alice"
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	r := openReaders(t, Config{MaxMsgsPerSubject: -1})
	raw, err := streamstest.DialRaw(r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var published []string
	for range streamstest.Either(400, 5_000) {
		published = append(published, randomBlock(random))
		if err := raw.Publish(alice, published[len(published)-1], ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := raw.Flush(); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, readersWithin, func() error {
		if n := r.state().Last; n < uint64(len(published)) {
			return fmt.Errorf("%d of %d are stored", n, len(published))
		}
		return nil
	})
	r.caughtUp()
	tail, single, scan, list := r.read(alice, 0)
	if len(tail) != len(published) {
		t.Fatalf("seed %d: the tail gives %d of %d messages", seed, len(tail), len(published))
	}
	for reader, got := range map[string][]string{"cold read": single, "batch scan": scan, "list": list} {
		if len(got) != len(tail) {
			t.Errorf("seed %d: the %s gives %d messages, the tail %d", seed, reader, len(got), len(tail))
			continue
		}
		for i := range got {
			if got[i] != tail[i] && !endUnknown(published[i]) {
				t.Errorf("seed %d: %q: the %s gives %q, the tail %q", seed, published[i], reader, got[i], tail[i])
			}
		}
	}
	if n := r.interruptions(); n > 20 { // some are the machine's
		t.Errorf("seed %d: %d interruptions of the tails", seed, n)
	}
}

func randomBlock(random *rand.Rand) string {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	end := pick("\r\n", "\r\n", "\r\n", "\n")
	block := pick("NATS/1.0", "NATS/1.0", "NATS/1.0", "NATS/1.0 503", "NATS/1.0 204 EOB", "NATS/1.0 404 No Results", "NATS/1.0 5", "XATS/1.0", "") + pick(end, end, end, "")
	for range random.IntN(8) {
		if random.IntN(8) == 0 {
			block += forged(end)
		}
		line := pick("Tidings-Id", "Tidings-Kind", "Content-Type", "Status", "Description", "Nats-Stream", "Nats-Subject", "Nats-Sequence",
			"Nats-Time-Stamp", "Nats-Last-Sequence", "Nats-Num-Pending", "Nats-UpTo-Sequence", "Nats-Marker-Reason", "a", "", " ", "\r", "\x00") +
			pick(": ", ": ", ":", ":\t ", "", " ") +
			pick("x", "", "503", "204", "1", "1000000", "NOTIFICATIONS", "notify.user.bob", "2026-01-02T03:04:05Z", "a\nb", "a\r\n b", "\r", "\xff", strings.Repeat("l", 300))
		block += strings.Repeat(line+pick(end, end, end, ""), 1+random.IntN(3)*random.IntN(40))
	}
	return block + pick(end, end, end, end+end, end+end+end, "", "X", "XY", "\n", "\r")
}
