package streams

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What has expired the server's clock says, wherever it jumps: what it drops is not delivered, and what it keeps is. Ours only
// measures how long ago that was, by its monotonic reading.
func TestTheServersClockJumps(t *testing.T) {
	began := time.Now().Round(0) // as it comes over the network
	r := newRing("e", 0, 1<<20)
	r.append(&Message{Seq: 1, Subject: "s", Time: began.Add(-30 * time.Second)}, encodeSeq)
	r.append(&Message{Seq: 2, Subject: "s", Time: began, Expires: began.Add(2 * time.Minute)}, encodeSeq)
	r.append(&Message{Seq: 3, Subject: "s", Time: began, Expires: never}, encodeSeq)
	for _, step := range []struct {
		what string
		now  time.Duration // since it began
		want string
	}{
		{"at first", 0, "[1: 2: 3:]"},
		{"ten minutes forward", 10 * time.Minute, "[1: 3:]"},
		{"three hours forward", 3 * time.Hour, "[3:]"},
		{"back again", 0, "[1: 2: 3:]"},
		{"a day back", -24 * time.Hour, "[1: 2: 3:]"},
	} {
		r.limits(State{First: 1, Now: began.Add(step.now), MaxAge: time.Hour})
		reader := &Reader{ring: r, told: 3, woken: make(chan struct{}, 1)}
		reader.attach([]Source{{Subject: "s"}})
		entries, _, err := reader.readTail(nil, 10)
		if got := fmt.Sprint(framesOf(entries)); err != nil || got != step.want {
			t.Errorf("%s: %s, %v, want %s", step.what, got, err, step.want)
		}
		reader.Close()
		if late := r.now().Sub(began.Add(step.now)); late < 0 || late > time.Minute {
			t.Errorf("%s: the server's clock is taken to be %s ahead of what it said", step.what, late)
		}
	}
	if !strings.Contains(r.localAt.String(), " m=") {
		t.Errorf("%s has no monotonic reading: a jump of our own clock would be taken for the server's", r.localAt)
	}
}
