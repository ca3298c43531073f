package streams

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
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
	r := openReaders(f, nil)
	consumers := r.consumers()
	f.Fuzz(func(t *testing.T, name, block, data string) {
		// A token has no spaces, nothing may expire between two reads, and a message is dropped that is only to be traced.
		if name == "" || strings.ContainsAny(name, " \t\r\n\f") || len(name)+len(block)+len(data) > 4000 ||
			strings.Contains(block, "Nats-TTL") || strings.Contains(block, "Nats-Trace") || strings.Contains(block, "traceparent") {
			return
		}
		r.TB = t
		subject := UserPrefix + name
		before := r.publish(subject, block, data, 1)
		if got := r.consumers(); !slices.Equal(got, consumers) {
			t.Errorf("%q, %q: consumers %v became %v", name, block, consumers, got)
			consumers = got
		}
		if got := r.follow(t.Context(), r.warm, otherUser, r.state().Last-1); len(got) != 1 {
			t.Errorf("%q, %q: the next user gets %q", name, block, got)
		}
		if !canonical(subject) {
			return // nobody reads it
		}
		tail, single, scan, list := r.read(subject, before.Last)
		if len(tail) > 1 {
			t.Errorf("one message is read as %q", tail)
		}
		for reader, got := range map[string][]string{"cold read": single, "batch scan": scan, "list": list} {
			if !slices.Equal(got, tail) && !endUnknown(block) {
				t.Errorf("%q, %q: the %s gives %q, the tail %q", name, block, reader, got, tail)
			}
		}
	})
}

// endUnknown reports whether a direct get cannot tell whether the block could be read: the server replaces its last two bytes, and with
// other ones it would be complete. The tail gives such a message without its headers, the other readers with them.
func endUnknown(block string) bool {
	if len(block) <= 2 || block[len(block)-3] != '\n' {
		return false
	}
	_, err := nats.DecodeHeadersMsg([]byte(block))
	_, otherwise := nats.DecodeHeadersMsg(append(bytes.Clone([]byte(block[:len(block)-2])), "\r\n"...))
	return err != nil && otherwise == nil
}
