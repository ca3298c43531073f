package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// batch is how many messages are read at once, between looks at anything else.
const batch = 64

// writer is what the session's writing goroutine owns.
type writer struct {
	*session
	now      time.Time // of this turn of the loop
	entries  []streams.Entry
	caughtUp bool      // everything of the client's up to the reader's position has been written
	warned   lease     // whose end was announced
	ping     time.Time // when the next is due
	retry    time.Time // when to read again after a failure; zero: there was none
	spans    spans     // of messages that are held
}

// writeLoop writes what comes behind the session's position, until the connection ends: first what was missed, then what is
// stored. It is the only one that writes frames.
func (s *session) writeLoop(ctx context.Context) error {
	w := &writer{session: s, now: time.Now()}
	w.ping = w.now.Add(s.g.cfg.Ping)
	reached := s.g.cfg.Tail.Reached(s.epoch, s.mark.Last)
	due := w.nextDue()
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	defer func() { w.spans.end(errUnsent) }()
	for {
		more, err := w.writeNext(ctx)
		if err != nil {
			return err
		}
		if err := w.writeDue(); err != nil {
			return err
		}
		next := w.now
		if !more {
			if err := w.flush(); err != nil {
				return err
			}
			next = w.nextDue()
		}
		if next != due {
			due = next
			timer.Reset(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			due = time.Time{}
		case <-s.reader.Wake():
		case <-reached: // the stream's end, perhaps without a message for this client
			reached = nil
		case <-s.poked:
			err = s.writeNote()
		case what := <-s.control:
			err = w.writeControl(what)
		}
		if err != nil {
			return err
		}
		w.now = time.Now()
	}
}

// writeNext reads and writes one batch; more says that another may be waiting. Where the stream cannot be read it says so in
// the log and leaves the position where it is.
func (w *writer) writeNext(ctx context.Context) (more bool, err error) {
	if w.now.Before(w.retry) {
		return false, nil
	}
	w.retry = time.Time{}
	due := w.nextDue()
	w.reader.SetDeadline(due)
	if w.line.holding() > 0 && w.reader.Cold() { // it may take long
		if err := w.flush(); err != nil {
			return false, err
		}
	}
	purged, at := w.reader.Purged(), w.reader.Position() // asked first, so that what is read is what was left
	w.entries, err = w.reader.Read(ctx, w.entries[:0], batch)
	if through := w.reader.Expired(); through > 0 {
		w.lost.expired(through)
		w.lost.through = max(w.lost.through, through)
	}
	if w.lost.reason != "" && (len(w.entries) > 0 || err == nil && w.reader.Position() >= w.mark.Last) {
		if err := w.writeLost(); err != nil {
			return false, err
		}
	}
	if n := len(w.entries); n > 0 {
		w.caughtUp = false
		w.lastMsg = w.entries[n-1].Seq // the position is behind it, written or not
	}
	if purged > 0 {
		if err := w.writePurged(at, purged); err != nil {
			return false, err
		}
	}
	for i := range w.entries {
		if err := w.writeMsg(ctx, &w.entries[i]); err != nil {
			return false, err
		}
	}
	if err != nil {
		w.now = time.Now()
	}
	switch {
	case errors.Is(err, streams.ErrReplaced), errors.Is(err, streams.ErrMissed):
		return false, err
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case err != nil && !w.now.Before(due): // a ping is due, which the client must have to be found alive
		w.caughtUp = false
		return true, nil
	case err != nil:
		w.caughtUp = false
		w.retry = w.now.Add(200*time.Millisecond + rand.N(time.Second))
		w.about(w.g.log.Warn()).Err(err).Msg("reading the stream, will try again")
		return false, nil
	}
	more = len(w.entries) == batch
	w.caughtUp = !more
	clear(w.entries) // an idle session holds no frames …
	if !more && cap(w.entries) > 4 {
		w.entries = nil // … and little else
	}
	if at := w.reader.Position(); w.caughtUp && w.state != live && at >= w.mark.Last {
		raise(&w.sent, at)
		return false, w.write(wire.Live{Seq: at})
	}
	return more, nil
}

// writeLost writes the gap at the start of the connection, before the first message, or before live where none follows.
func (w *writer) writeLost() error {
	gap := wire.Gap{After: w.lastMsg, Reason: w.lost.reason}
	if end := max(w.lost.upTo, gap.After); len(w.entries) > 0 {
		gap.Next = max(w.lost.through+1, w.entries[0].Seq)
	} else if end < w.reader.Position() {
		gap.Next = end + 1
	}
	reported := max(w.lost.upTo, w.lost.through)
	if gap.Next > 0 { // memory may still have some of what the stream has dropped
		reported = min(reported, gap.Next-1)
		w.reader.Reported(gap.Next - 1)
	}
	if w.lost.settles {
		w.settles.Store(reported)
	}
	w.lost = loss{}
	return w.write(gap)
}

// writePurged reports that somebody has purged messages, up to a seq, that the client may read.
func (w *writer) writePurged(after, through uint64) error {
	gap := wire.Gap{After: after, Reason: wire.GapPurged}
	if len(w.entries) > 0 { // the first may be of another subject
		gap.Next = max(through+1, w.entries[0].Seq)
	}
	return w.write(gap)
}

// writeMsg writes one message. A client that takes a batch slowly gets pings, and its end, in the midst of it.
func (w *writer) writeMsg(ctx context.Context, e *streams.Entry) error {
	if w.line.holding() >= heldMost {
		if err := w.flush(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.now = time.Now()
		if err := w.writeDue(); err != nil {
			return err
		}
	}
	w.sent.Store(e.Seq) // before the client can acknowledge it
	frame := e.Frame
	if w.g.tracer != nil {
		frame = w.trace(e)
	}
	if err := w.line.write(frame, e.Seq); err != nil {
		return err
	}
	w.delivered++
	if w.state == live && w.oldest == 0 {
		w.oldest = e.Time.UnixNano()
	}
	return nil
}

func (w *writer) writeControl(what any) error {
	switch what := what.(type) {
	case []streams.Source:
		w.reader.Sources(what)
		return nil
	case wire.Frame:
		return w.write(what)
	}
	panic(fmt.Sprintf("delivery: %T is nothing to write", what))
}

// tellAcked notes that another connection has acknowledged, for the writer to pass on. Only the newest matters.
func (s *session) tellAcked(seq, unread uint64) {
	s.has(seq) // or nobody needs to any more: the stored position lies there
	if seq <= s.acked.Load() || !raise(&s.told, seq) {
		return // it was this one, or it knows
	}
	s.mu.Lock()
	s.note = &wire.Acked{Seq: seq, Unread: unread}
	s.mu.Unlock()
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// raise sets v to at least to, and says whether that was more.
func raise(v *atomic.Uint64, to uint64) bool {
	for {
		have := v.Load()
		if to <= have {
			return false
		}
		if v.CompareAndSwap(have, to) {
			return true
		}
	}
}

func (s *session) writeNote() error {
	s.mu.Lock()
	note := s.note
	s.note = nil
	s.mu.Unlock()
	if note == nil {
		return nil
	}
	return s.write(*note)
}

func (s *session) write(f wire.Frame) error {
	var position uint64
	switch f := f.(type) {
	case wire.Ready:
		position = f.After
		s.noteReady(f)
	case wire.Gap:
		s.crossed.Store(s.pings.Load())
		s.owed.Store(f.After + 1)
		s.noteGap(f.Reason)
	case wire.Live:
		position = f.Seq
		s.noteLive()
	case wire.Ping:
		s.pings.Add(1)
		position = f.Seq
	}
	return s.line.write(wire.Append(nil, f), position)
}

// flush sends what was written. After the lease's end nothing is sent but the rest of a frame that was begun before.
func (s *session) flush() error {
	held := s.line.holding()
	if held == 0 {
		return nil
	}
	now, slack := time.Now(), time.Second
	lease := s.currentLease()
	if lease.over(now) {
		s.line.drop()
		s.noteDropped()
		return errLeaseExpired
	}
	deadline := now.Add(s.g.cfg.WriteWithin)
	if !lease.end.IsZero() && lease.end.Before(deadline.Add(slack)) {
		deadline, slack = lease.end, 0
	}
	err := s.line.flush(deadline, slack)
	if err == nil {
		s.noteFlush(held)
		return nil
	}
	s.noteDropped()
	switch {
	case isTimeout(err) && lease.over(time.Now()):
		return errLeaseExpired
	case isTimeout(err):
		return fmt.Errorf("%w: the client does not take what is sent", errTimeout)
	}
	return fmt.Errorf("%w: %w", errClientGone, err)
}
