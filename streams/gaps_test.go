package streams

import (
	"fmt"
	"testing"
	"time"
)

// What memory tells about messages that the stream no longer has.
func TestMayLack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ended := now.Add(-time.Second)
	for name, c := range map[string]struct {
		alter   func(r *ring)
		expires time.Time // of alice's message, 3 of 5
		after   uint64
		want    bool
	}{
		"hers":                        {want: true},
		"before the position":         {after: 3},
		"nothing between":             {after: 5},
		"ended by its TTL":            {expires: ended},
		"dropped before its TTL":      {expires: now.Add(time.Hour), want: true},
		"deleted":                     {alter: func(r *ring) { r.remove(3) }},
		"purged":                      {alter: func(r *ring) { r.purge("notify.user.alice", 5) }, want: true},
		"purged after its TTL":        {expires: ended, alter: func(r *ring) { r.purge(">", 5) }},
		"no longer in memory":         {after: 0, alter: func(r *ring) { r.evict() }, want: true},
		"not in memory, and not read": {after: 3, alter: func(r *ring) { r.evict(); r.evict(); r.evict(); r.evict() }, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing("e", 0, 1<<20)
			r.limits(State{First: 1, Now: now})
			for seq := uint64(1); seq <= 5; seq++ {
				m := Message{Seq: seq, Subject: "notify.user.bob"}
				if seq == 3 {
					m.Subject, m.Expires = "notify.user.alice", c.expires
				}
				r.append(&m, encodeSeq)
			}
			if c.alter != nil {
				c.alter(r)
			}
			mine := []Source{{Subject: "notify.user.alice"}, {Subject: "notify.topic.all"}}
			if got := (&Tail{ring: r}).MayLack(State{Epoch: "e", Now: now}, mine, c.after, 5); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
	r := newRing("e", 0, 1<<20)
	r.limits(State{First: 1, Now: now})
	r.append(&Message{Seq: 1, Subject: "notify.user.bob"}, encodeSeq)
	r.append(&Message{Seq: 3, Subject: "notify.user.bob"}, encodeSeq)
	tail := &Tail{ring: r}
	if !tail.MayLack(State{Epoch: "e", Now: now}, nil, 0, 3) {
		t.Error("2 was never read")
	}
	if !tail.MayLack(State{Epoch: "another", Now: now}, nil, 0, 1) {
		t.Error("memory is of another epoch")
	}
}

// Answered gaps are forgotten with their epoch, and do not grow without bound.
func TestSettledGaps(t *testing.T) {
	t.Parallel()
	c := NewCursors(&Tail{stream: &Stream{}, ring: newRing("e", 0, 1)}, CursorsConfig{})
	id := CursorID{User: "alice"}
	c.SettleGap(id, "another", 10, 20)
	c.SettleGap(CursorID{User: "bob"}, "e", 0, 20)
	if got := c.SettledGap(id, "e", 10); got != 0 {
		t.Errorf("of another epoch: %d", got)
	}
	c.SettleGap(id, "e", 10, 20)
	for at, want := range map[uint64]uint64{9: 0, 10: 20, 19: 20} {
		if got := c.SettledGap(id, "e", at); got != want {
			t.Errorf("at %d: %d, want %d", at, got, want)
		}
	}
	if got := c.SettledGap(id, "e", 20); got != 0 || len(c.settled) != 1 {
		t.Errorf("past its end: %d, and %d are remembered", got, len(c.settled))
	}
	for i := range settledMax + 10 {
		c.SettleGap(CursorID{User: fmt.Sprint(i)}, "e", 0, 1)
	}
	if n := len(c.settled); n != settledMax {
		t.Errorf("%d are remembered", n)
	}
	c.forgetOthers("next")
	if len(c.settled) != 0 {
		t.Error("those of an epoch that is over are remembered")
	}
}
