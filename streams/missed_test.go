package streams

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// What was read behind a hole is reached once readers may read it, and not before.
func TestReachedIsWhatReadersMayRead(t *testing.T) {
	begin := func() (r *ring) {
		r = newRing("e", 0, 1<<20)
		r.limits(State{First: 1, Now: time.Now(), MaxMsgsPerSubject: 10})
		r.append(&Message{Seq: 1, Subject: "s"}, encodeSeq)
		return r
	}
	for name, c := range map[string]struct{ hole, known func(r *ring) }{
		"of what was stored since the consumer began": {
			func(r *ring) { r.append(&Message{Seq: 5, Subject: "s"}, encodeSeq) },
			func(r *ring) { r.bound(5, 1) },
		},
		"of an absence": {
			func(r *ring) {
				r.absent(20, 10)
				r.append(&Message{Seq: 15, Subject: "s"}, encodeSeq)
			},
			func(r *ring) { r.advance(20) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := begin()
			before := r.wait(5)
			c.hole(r)
			for i, reached := range []<-chan struct{}{r.wait(1), before, r.wait(5)} {
				if want := i == 0; isClosed(reached) != want {
					t.Errorf("while nobody may read behind the hole at 1: wait %d is over: %t", i, !want)
				}
			}
			later := r.wait(5)
			c.known(r)
			for i, reached := range []<-chan struct{}{before, later, r.wait(5)} {
				if !isClosed(reached) {
					t.Error(fmt.Sprint("wait ", i), "goes on, though all may read")
				}
			}
		})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// What the stream has dropped is still read from memory while that is not known there. The rest of it is not skipped in silence.
func TestWhatWasNotReportedIsMissed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reported uint64 // by the owner, of what it knew to be gone up to 8
		want     error
	}{
		"all of it":                  {8, nil},
		"what lay before the first":  {0, ErrMissed},
		"a part beyond what is left": {6, ErrMissed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing("e", 0, 1<<20)
			r.limits(State{First: 1, Now: time.Now()})
			for seq := uint64(1); seq <= 10; seq++ {
				r.append(&Message{Seq: seq, Subject: "s"}, encodeSeq)
			}
			reader, err := (&Tail{ring: r}).Reader(State{Epoch: "e", First: 9, Expired: 8, Last: 10}, 0, []Source{{Subject: "s"}})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := reader.Read(t.Context(), nil, 3); err != nil || len(got) != 3 {
				t.Fatal(len(got), err)
			}
			reader.Reported(c.reported)
			r.limits(State{First: 9, Expired: 8, Now: time.Now()})
			got, err := reader.Read(t.Context(), nil, 10)
			if !errors.Is(err, c.want) || (err == nil) != (len(got) == 2) {
				t.Errorf("%d messages, %v; want %v", len(got), err, c.want)
			}
		})
	}
}
