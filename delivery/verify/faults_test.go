package verify_test

import (
	"sync/atomic"
	"testing"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
)

// runWithFault stores three notifications to alice, connects her through a relay that inserts the fault, and then
// publishes one to bob and three more to alice.
func runWithFault(t *testing.T, fault func() tamper) *system {
	t.Helper()
	w := newSystem(t)
	p := w.publisher(t, "p")
	publishTo(t, p, "alice", "alice", "alice")
	c, _ := w.start(t, verify.ClientConfig{User: "alice", URLs: []string{relay(t, w.url, fault)}})
	live(t, c)
	publishTo(t, p, "bob", "alice", "alice", "alice")
	return w
}

func TestNoViolationWithoutFault(t *testing.T) {
	w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame { return []wire.Frame{m} }))
	w.passes(t)
	if s := w.log.Stats(); s.Attempted != 7 || s.Acknowledged != 7 || s.Messages != 6 || s.Live != 1 || s.Connections != 1 {
		t.Errorf("%+v", s)
	}
}

func TestLostMessageIsFound(t *testing.T) {
	for name, lost := range map[string]string{"replayed": "p-2", "live": "p-6"} {
		t.Run(name, func(t *testing.T) {
			w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame {
				if m.ID == lost {
					return nil
				}
				return []wire.Frame{m}
			}))
			w.finds(t, "lost", "client alice did not receive "+lost)
			if w.log.Missing() == nil {
				t.Error("Missing found nothing")
			}
			w.log.Removed(lost)
			w.passes(t)
		})
	}
}

// TestLossMustBeCoveredByGap drops two messages and inserts a gap right after ready.
func TestLossMustBeCoveredByGap(t *testing.T) {
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
	t.Run("gap covers the loss", func(t *testing.T) { runWithFault(t, withGap(4)).passes(t) })
	t.Run("gap without end", func(t *testing.T) { runWithFault(t, withGap(0)).passes(t) })
	t.Run("gap ends too early", func(t *testing.T) {
		w := runWithFault(t, withGap(3))
		w.finds(t, "lost", "client alice did not receive p-3")
		w.finds(t, "live", "while p-3 to user:alice")
	})
}

func TestForeignMessageIsFound(t *testing.T) {
	t.Run("of another user", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-5" {
				return []wire.Frame{with(m, "p-4", "bob", 4)}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "foreign", "is p-4 to user:bob")
	})
	t.Run("of another user, with the data changed", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-5" {
				return []wire.Frame{with(m, "p-4", "alice", 4)}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "foreign", "p-4 to user:bob")
	})
	t.Run("not published", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame { return []wire.Frame{m, with(m, "q-1", "alice", 1)} }))
		w.finds(t, "foreign", `"q-1", which was not published`)
	})
	t.Run("as a topic message", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame { m.Topic = "all"; return []wire.Frame{m} }))
		w.finds(t, "foreign", `(topic "all") is p-1 to user:alice`)
	})
}

func TestDuplicateIsFound(t *testing.T) {
	t.Run("with a new seq", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-7" {
				again := m
				again.Seq++
				return []wire.Frame{m, again}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "duplicate", "p-7 to user:alice")
		w.finds(t, "order", "p-7 to user:alice")
	})
	t.Run("with the same seq in one connection", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame { return []wire.Frame{m, m} }))
		w.finds(t, "order", "came after")
	})
}

func TestWrongOrderIsFound(t *testing.T) {
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
	t.Run("with their seqs", func(t *testing.T) { runWithFault(t, swapped(false)).finds(t, "order", "came after") })
	t.Run("with exchanged seqs", func(t *testing.T) {
		w := runWithFault(t, swapped(true))
		w.finds(t, "order", "with seq 6")
		w.finds(t, "order", "after the publisher's number 6")
	})
}

func TestWrongLiveIsFound(t *testing.T) {
	t.Run("too early", func(t *testing.T) {
		w := runWithFault(t, func() tamper {
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
		w := runWithFault(t, func() tamper {
			return func(f wire.Frame) []wire.Frame {
				if l, ok := f.(wire.Live); ok {
					return []wire.Frame{wire.Live{Seq: l.Seq - 1}}
				}
				return []wire.Frame{f}
			}
		})
		w.finds(t, "live", "but 3 was acknowledged before auth")
	})
	t.Run("twice", func(t *testing.T) {
		w := runWithFault(t, func() tamper {
			return func(f wire.Frame) []wire.Frame {
				if _, ok := f.(wire.Live); ok {
					return []wire.Frame{f, f}
				}
				return []wire.Frame{f}
			}
		})
		w.finds(t, "live", "a second live")
	})
	t.Run("wrong ping", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-7" {
				return nil
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "live", "ping is 7")
	})
}

func TestMisplacedFrameIsFound(t *testing.T) {
	t.Run("after goaway", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame {
			if m.ID == "p-7" {
				return []wire.Frame{m, wire.Goaway{Code: wire.CloseDraining}, wire.Ping{}}
			}
			return []wire.Frame{m}
		}))
		w.finds(t, "protocol", "came after goaway")
	})
	t.Run("a late gap", func(t *testing.T) {
		w := runWithFault(t, onMsg(func(m wire.Msg) []wire.Frame {
			return []wire.Frame{m, wire.Gap{After: m.Seq, Reason: wire.GapExpired}}
		}))
		w.finds(t, "protocol", "came too late")
	})
	// A gap at the start is allowed once, before the first message.
	for name, c := range map[string]struct {
		gaps []wire.Frame
		want string // empty: no violation
	}{
		"a gap":                {[]wire.Frame{wire.Gap{Next: 1, Reason: wire.GapExpired}}, ""},
		"a gap after a ping":   {[]wire.Frame{wire.Ping{}, wire.Gap{Next: 2, Reason: wire.GapLimit}}, ""},
		"a gap at another seq": {[]wire.Frame{wire.Gap{After: 1, Next: 2, Reason: wire.GapExpired}}, "not where the connection starts"},
		"two gaps": {
			[]wire.Frame{wire.Gap{Next: 1, Reason: wire.GapExpired}, wire.Gap{Next: 2, Reason: wire.GapExpired}}, "came too late or twice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := runWithFault(t, func() tamper {
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
		w := runWithFault(t, func() tamper {
			return func(f wire.Frame) []wire.Frame {
				if _, ok := f.(wire.Ready); ok {
					return []wire.Frame{wire.Ping{}, f}
				}
				return []wire.Frame{f}
			}
		})
		w.finds(t, "protocol", "came before ready")
	})
	t.Run("new epoch", func(t *testing.T) {
		var connections atomic.Int32
		w := newSystem(t)
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
		w.finds(t, "protocol", "but the stream was not replaced")
	})
}
