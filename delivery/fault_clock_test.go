package delivery

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// A clock that is set, forward or back, ends no lease and lengthens none, and forgets no disconnect: what is compared later has a
// monotonic reading. It does not run while the machine sleeps.
func TestAClockThatIsSetChangesNothing(t *testing.T) {
	s := &session{g: New(Config{}), cursor: streams.CursorID{User: "alice"}}
	s.setLease(auth.Identity{User: "alice", ExpiresIn: time.Hour})
	h := newHub()
	h.disconnect(disconnect{user: "alice"})
	for what, at := range map[string]time.Time{
		"a lease's end": s.currentLease().end, "its announcement": s.currentLease().warn, "a disconnect": h.disconnects[0].at,
	} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s, at %s, has no monotonic reading", what, at)
		}
	}
	if l := s.currentLease(); l.over(l.end.Add(-time.Nanosecond)) || !l.over(l.end) {
		t.Errorf("%+v does not end at its end", l)
	}
}

// What a backend gives as a reason for a disconnect goes into a close frame, which has 123 bytes for it.
func FuzzClip(f *testing.F) {
	for _, reason := range []string{
		"", "logout", strings.Repeat("a", 123), strings.Repeat("a", 124), strings.Repeat("é", 62), "a" + strings.Repeat("é", 62),
		strings.Repeat("😀", 31), "aaa" + strings.Repeat("😀", 31), strings.Repeat("\x80", 200), "\xff",
	} {
		f.Add(reason)
	}
	f.Fuzz(func(t *testing.T, reason string) {
		short := clip(reason, mostReason)
		switch {
		case len(short) > 123, !strings.HasPrefix(reason, short), len(reason) <= 123 && short != reason:
			t.Errorf("%q became %q", reason, short)
		case utf8.ValidString(reason) && !utf8.ValidString(short):
			t.Errorf("%q was cut within a character: %q", reason, short)
		case utf8.ValidString(reason) && len(reason) > 123 && len(short) < 120:
			t.Errorf("%q lost more than it had to: %q", reason, short)
		}
		frame := wire.Append(nil, wire.Goaway{Code: wire.CloseDisconnected, Reason: reason})
		if again, err := wire.Decode(frame); err != nil || utf8.ValidString(reason) && again.(wire.Goaway).Reason != reason {
			t.Errorf("goaway with %q: %s, %v", reason, frame, err)
		}
	})
}
