package delivery

import (
	"context"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// loss is what may be gone between the start of a connection and the first message that follows. The zero value is no loss.
type loss struct {
	reason  string
	upTo    uint64 // the last seq that may be gone, where no message follows
	through uint64 // likewise where messages follow, of which some may lie before it: they are of other subjects, or outlive others
	settles bool   // the connection starts at the stored position: its answer counts for all that start there
}

// expired adds that messages up to a seq have expired. A replaced stream stays the reason.
func (l *loss) expired(upTo uint64) {
	if l.reason != wire.GapStreamReset {
		l.reason = wire.GapExpired
	}
	l.upTo = max(l.upTo, upTo)
}

// position decides where the connection starts and what it reads from there, and what may be gone between there and the first
// message that follows. Of several reasons the gravest is reported; the range covers all of them.
func (s *session) position(ctx context.Context, first wire.Auth, cursor streams.CursorState, sources []streams.Source) (uint64, loss, error) {
	after, reset, resumed := cursor.Seq, cursor.Reset, false
	if first.After != nil && first.User == s.cursor.User { // another user's position in a shared browser is ignored
		if first.Epoch == s.epoch && *first.After <= s.mark.Last {
			after, resumed, reset = *first.After, true, false // it was told in this epoch
		} else {
			reset = true
		}
	}
	lost, known := loss{settles: !resumed}, after // up to known nothing is reported: a client has answered for it
	if !resumed {
		known = max(after, s.g.cfg.Cursors.SettledGap(s.cursor, s.epoch, after))
	}
	expired := (resumed || !cursor.New) && // a new user was promised nothing
		s.g.cfg.Tail.MayLack(s.mark, sources, known, s.mark.Expired)
	oldest, err := s.limit(ctx, cursor, after, sources)
	if err != nil {
		return 0, lost, err
	}
	if oldest > known+1 {
		lost.reason, lost.upTo, lost.through = wire.GapLimit, oldest-1, oldest-1
	}
	if expired {
		lost.expired(s.mark.Expired)
	}
	if reset {
		lost.reason, lost.upTo = wire.GapStreamReset, max(lost.upTo, s.mark.Expired)
	}
	if lost.upTo > lost.through && s.mark.Expired > s.mark.Before() { // some messages outlive others that are newer
		lost.through = lost.upTo
	}
	return after, lost, nil
}

// uncounted is how many messages a durable's pending count may lack, at most: the server counts a message soon after it has
// acknowledged it.
const uncounted = 100

// limit finds the sources that are at the stream's limit, with the oldest message past the start: the stream has dropped some
// before that, which the Tail may still hold. They are read from there. It returns the last of those beginnings, or 0. On the way it
// sets what is unread of each, at most.
func (s *session) limit(ctx context.Context, cursor streams.CursorState, after uint64, sources []streams.Source) (last uint64, err error) {
	limit := uint64(max(0, s.mark.MaxMsgsPerSubject))
	for i := range sources {
		source := &sources[i]
		start := max(after, source.After)
		source.Unread = s.mark.Last - min(s.mark.Last, start) // if all were its own
		if i == 0 && after >= cursor.Seq {
			source.Unread = min(source.Unread, cursor.Unread+uncounted)
		}
		if limit == 0 || source.Unread < limit {
			continue
		}
		have, err := s.g.cfg.Tail.AtMost(ctx, s.mark, source.Subject, start, limit)
		if err != nil {
			return 0, err
		}
		source.Unread = min(source.Unread, have)
		if have < limit {
			continue
		}
		oldest, found, err := s.g.cfg.Stream.Oldest(ctx, source.Subject)
		if err != nil {
			return 0, err
		}
		if found && oldest > start+1 {
			source.After = oldest - 1
			last = max(last, oldest)
		}
	}
	return last, nil
}
