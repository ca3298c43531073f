package streams

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// filled is a ring of n messages, one in every `of` to the subject "mine", the others to 1,000 others.
func filled(n, of int) *ring {
	r := newRing("e", 0, 1<<40)
	r.limits(State{First: 1, Now: time.Now()})
	m := Message{Time: time.Now(), Data: make([]byte, 100)}
	others := make([]string, 1000)
	for i := range others {
		others[i] = fmt.Sprint("other", i)
	}
	for i := range n {
		m.Seq = uint64(i + 1)
		if m.Subject = others[i%1000]; i%of == 0 {
			m.Subject = "mine"
		}
		r.append(&m, encodeRaw)
	}
	return r
}

func encodeRaw(dst []byte, m *Message) []byte { return append(dst, m.Data...) }

// BenchmarkAppend is a message of 256 bytes to one of 10,000 users, into a ring that is full.
func BenchmarkAppend(b *testing.B) {
	subjects := make([]string, 10_000)
	for i := range subjects {
		subjects[i] = fmt.Sprint("notify.user.", i)
	}
	r := newRing("e", 0, 64<<20)
	m := Message{Time: time.Now(), Data: make([]byte, 256)}
	for m.Seq < 1_000_000 {
		m.Seq++
		m.Subject = subjects[m.Seq*7919%10_000]
		r.append(&m, encodeRaw)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Seq++
		m.Subject = subjects[m.Seq*7919%10_000]
		r.append(&m, encodeRaw)
	}
}

// BenchmarkReadBehind reads one's own 10 messages out of those of many others.
func BenchmarkReadBehind(b *testing.B) {
	for _, others := range []int{10, 1_000_000} {
		b.Run(fmt.Sprint(others, " others"), func(b *testing.B) {
			r := filled(others+10, others/10+1)
			reader := &Reader{ring: r, woken: make(chan struct{}, 1)}
			reader.attach([]Source{{Subject: "mine"}})
			var dst []Entry
			b.ReportAllocs()
			for b.Loop() {
				reader.pos, reader.sources[0].next = 0, 0
				dst, _, _ = reader.readTail(dst[:0], 64)
				if len(dst) != 10 {
					b.Fatalf("%d messages", len(dst))
				}
			}
		})
	}
}

// BenchmarkGC is a collection while a ring holds 10^6 messages; and for comparison, while as many pointers are held.
func BenchmarkGC(b *testing.B) {
	collect := func(b *testing.B, held any) {
		runtime.GC()
		for b.Loop() {
			runtime.GC()
		}
		runtime.KeepAlive(held)
	}
	b.Run("nothing", func(b *testing.B) { collect(b, nil) })
	b.Run("ring", func(b *testing.B) { collect(b, filled(1_000_000, 10)) })
	b.Run("pointers", func(b *testing.B) {
		held := make([]*[128]byte, 1_000_000)
		for i := range held {
			held[i] = new([128]byte)
		}
		collect(b, held)
	})
}
