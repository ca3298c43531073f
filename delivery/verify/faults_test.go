package verify_test

import (
	"sync/atomic"
	"testing"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
)

// planted connects alice through a relay that plants the fault, after three notifications to her were stored, and publishes three
// more and one to bob.
func planted(t *testing.T, plant func() tamper) *town {
	t.Helper()
	w := newTown(t)
	p := w.publisher(t, "p")
	to(t, p, "alice", "alice", "alice")
	c, _ := w.start(t, verify.ClientConfig{User: "alice", URLs: []string{relay(t, w.url, plant)}})
	live(t, c)
	to(t, p, "bob", "alice", "alice", "alice")
	return w
}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	w := planted(t, onMsg(func(m wire.Msg) []wire.Frame { return []wire.Frame{m} }))
	w.passes(t)
	if s := w.log.Stats(); s.Attempted != 7 || s.Acknowledged != 7 || s.Messages != 6 || s.Live != 1 || s.Connections != 1 {
		t.Errorf("%+v", s)
	}
}

func TestALostMessageIsFound(t *testing.T) {
	for name, lost := range map[string]string{"replayed": "p-2", "live": "p-6"} {
		t.Run(name, func(t *testing.T) {
			w := planted(t, onMsg(func(m wire.Msg) []wire.Frame {
				if m.ID == lost {
					return nil
				}
				return []wire.Frame{m}
			}))
			w.finds(t, "lost", "client alice lacks "+lost)
			if w.log.Missing() == nil {
				t.Error("nothing is missing")
			}
			w.log.Removed(lost)
			w.passes(t)
		})
	}
}

// A gap straight after ready says that what lies between may be gone.
func TestALossMustBeCoveredByAGap(t *testing.T) {
	withGap := func(next uint64) func() tamper {
		return func() tamper {
			return func(f wire.Frame) []wire.Frame {
				switch m := f.(type) {
				case wire.Ready:
					return []wire.Frame{f, wire.Gap{Next: next, Reason: wire.GapExpired}}
				case wire.Msg:
					if m.Seq == 2 || m.Seq == 3 {
						return nil
					}
				}
				return []wire.Frame{f}
			}
		}
	}
	t.Run("which covers it", func(t *testing.T) { planted(t, withGap(4)).passes(t) })
	t.Run("of what followed by then", func(t *testing.T) { planted(t, withGap(0)).passes(t) })
	t.Run("which ends before it", func(t *testing.T) {
		w := planted(t, withGap(3))
		w.finds(t, "lost", "client alice lacks p-3")
		w.finds(t, "live", "while p-3 to user:alice")
	})
}

func TestAMessageOfAnotherUserIsFound(t *testing.T) {
	t.Run("as it was published", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-5" {
				return []wire.Frame{with(m, "p-4", "bob", 4)}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "foreign", "is p-4 to user:bob")
	})
	t.Run("changed so that it looks like hers", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-5" {
				return []wire.Frame{with(m, "p-4", "alice", 4)}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "foreign", "published was p-4 to user:bob")
	})
	t.Run("that nobody published", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame { return []wire.Frame{m, with(m, "q-1", "alice", 1)} }))
		w.finds(t, "foreign", `"q-1", which nobody published`)
	})
	t.Run("as a topic's", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame { m.Topic = "all"; return []wire.Frame{m} }))
		w.finds(t, "foreign", `(topic "all") is p-1 to user:alice`)
	})
}

func TestARepeatIsFound(t *testing.T) {
	t.Run("that the client cannot drop by its seq", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-7" {
				again := m
				again.Seq++
				return []wire.Frame{m, again}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "twice", "p-7 to user:alice")
		w.finds(t, "order", "p-7 to user:alice")
	})
	t.Run("within a connection", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame { return []wire.Frame{m, m} }))
		w.finds(t, "order", "came behind")
	})
}

func TestAReorderIsFound(t *testing.T) {
	swapped := func(keepSeqs bool) func() tamper {
		return func() tamper {
			var held *wire.Msg
			return onMsg(func(m wire.Msg) []wire.Frame {
				switch {
				case m.ID == "p-5":
					held = &m
					return nil
				case held == nil:
					return []wire.Frame{m}
				}
				first, second := m, *held
				held = nil
				if keepSeqs {
					first.Seq, second.Seq = second.Seq, first.Seq
				}
				return []wire.Frame{first, second}
			})()
		}
	}
	t.Run("with its seqs", func(t *testing.T) { planted(t, swapped(false)).finds(t, "order", "came behind") })
	t.Run("under other seqs", func(t *testing.T) {
		w := planted(t, swapped(true))
		w.finds(t, "order", "with seq 6")
		w.finds(t, "order", "behind the publisher's number 6")
	})
}

func TestADishonestLiveIsFound(t *testing.T) {
	t.Run("too early", func(t *testing.T) {
		w := planted(t, func() tamper {
			var held []wire.Frame
			return func(f wire.Frame) []wire.Frame {
				switch f := f.(type) {
				case wire.Msg:
					if f.Seq <= 3 {
						held = append(held, f)
						return nil
					}
				case wire.Live:
					return append([]wire.Frame{f}, held...)
				}
				return []wire.Frame{f}
			}
		})
		w.finds(t, "live", "live is 3")
	})
	t.Run("too low", func(t *testing.T) {
		w := planted(t, func() tamper {
			return func(f wire.Frame) []wire.Frame {
				if l, ok := f.(wire.Live); ok {
					return []wire.Frame{wire.Live{Seq: l.Seq - 1}}
				}
				return []wire.Frame{f}
			}
		})
		w.finds(t, "live", "and 3 was acknowledged before auth")
	})
	t.Run("twice", func(t *testing.T) {
		w := planted(t, func() tamper {
			return func(f wire.Frame) []wire.Frame {
				if _, ok := f.(wire.Live); ok {
					return []wire.Frame{f, f}
				}
				return []wire.Frame{f}
			}
		})
		w.finds(t, "live", "a second live")
	})
	t.Run("a ping", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-7" {
				return nil
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "live", "ping is 7")
	})
}

func TestAFrameOutOfPlaceIsFound(t *testing.T) {
	t.Run("after goaway", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-7" {
				return []wire.Frame{m, wire.Goaway{Code: wire.CloseDraining}, wire.Ping{}}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "protocol", "came after goaway")
	})
	t.Run("a late gap", func(t *testing.T) {
		w := planted(t, onMsg(func(m wire.Msg) []wire.Frame {
			return []wire.Frame{m, wire.Gap{After: m.Seq, Reason: wire.GapExpired}}
		}))
		w.finds(t, "protocol", "came too late")
	})
	// What is missing at the start is reported once, before the first message.
	for name, c := range map[string]struct {
		gaps []wire.Frame
		want string // empty: nothing is wrong
	}{
		"a gap":                {[]wire.Frame{wire.Gap{Next: 1, Reason: wire.GapExpired}}, ""},
		"a gap behind a ping":  {[]wire.Frame{wire.Ping{}, wire.Gap{Next: 2, Reason: wire.GapLimit}}, ""},
		"a gap from elsewhere": {[]wire.Frame{wire.Gap{After: 1, Next: 2, Reason: wire.GapExpired}}, "not where the connection does"},
		"a gap too many": {
			[]wire.Frame{wire.Gap{Next: 1, Reason: wire.GapExpired}, wire.Gap{Next: 2, Reason: wire.GapExpired}}, "came too late, or twice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := planted(t, func() tamper {
				return func(f wire.Frame) []wire.Frame {
					if _, ok := f.(wire.Ready); ok {
						return append([]wire.Frame{f}, c.gaps...)
					}
					return []wire.Frame{f}
				}
			})
			if c.want == "" {
				w.passes(t)
			} else {
				w.finds(t, "protocol", c.want)
			}
		})
	}
	t.Run("before ready", func(t *testing.T) {
		w := planted(t, func() tamper {
			return func(f wire.Frame) []wire.Frame {
				if _, ok := f.(wire.Ready); ok {
					return []wire.Frame{wire.Ping{}, f}
				}
				return []wire.Frame{f}
			}
		})
		w.finds(t, "protocol", "came before ready")
	})
	t.Run("another epoch", func(t *testing.T) {
		var connections atomic.Int32
		w := newTown(t)
		c, _ := w.start(t, verify.ClientConfig{User: "alice", URLs: []string{relay(t, w.url, func() tamper {
			first := connections.Add(1) == 1
			return func(f wire.Frame) []wire.Frame {
				if r, ok := f.(wire.Ready); ok && !first {
					r.Epoch = "other"
					f = r
				}
				return []wire.Frame{f}
			}
		})}})
		live(t, c)
		c.Drop()
		w.finds(t, "protocol", "and the stream was not replaced")
	})
}
