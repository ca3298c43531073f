package streams

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
)

// enter makes the ring fit what the stream is now. Where the stream is another one, or went back in time, or has dropped what was not
// yet read, that is a new one.
func (t *Tail) enter(ctx context.Context, st State, wentBack, missed bool) (*ring, error) {
	t.replicas.Store(int32(st.Replicas))
	old, over := t.current(), ErrReplaced
	same := old != nil && old.epoch == st.Epoch
	switch {
	case same && wentBack:
		last, read := st.Last, old.position()
		var err error
		if st, err = t.newEpoch(ctx, st.Epoch); err != nil {
			return nil, err
		}
		t.log.Error().Uint64("last", last).Uint64("read", read).
			Msg("the stream went back in time (a restored backup, or a crash without --sync always); a new epoch begins")
	case same && missed:
		over = ErrMissed
	case same:
		old.limits(st)
		return old, nil
	}
	if old != nil {
		t.log.Warn().Str("old", old.epoch).Str("new", st.Epoch).Err(over).Msg("clients come again")
	}
	r := newRing(st.Epoch, t.warmFrom(st), t.cfg.MaxBytes)
	r.begun = st.Last
	r.limits(st)
	t.mu.Lock()
	t.ring = r
	t.mu.Unlock()
	if old != nil {
		old.replace(over)
		if t.onReplace != nil {
			t.onReplace(r.epoch)
		}
	}
	return r, nil
}

// newEpoch ends the epoch. All gateways see the stream go back at the same time: one shall be first, and the others find it done.
// It looks twice, and for as long as the leader is young again and again: it may not have applied what it holds, while a consumer on another
// server has gone further.
func (t *Tail) newEpoch(ctx context.Context, old string) (State, error) {
	if err := pause(ctx, rand.N(newEpochWithin)); err != nil {
		return State{}, err
	}
	read := t.current().position()
	st, err := t.stream.State(ctx)
	if err != nil || st.Epoch != old {
		return st, err
	}
	if wentBack, err := t.wentBack(ctx, st, read); err != nil || !wentBack {
		return State{}, cmp.Or(err, errAnew)
	}
	if st.disputed {
		t.looked.Store(0) // until it is known nothing is committed, and the gateway is not ready
		t.saw()
		return State{}, fmt.Errorf("%w: %w", errAnew, errDisputed)
	}
	return t.stream.NewEpoch(ctx)
}

// wentBack says that the stream, of the same epoch, is not the one that was read up to a seq before it was looked at: it lacks
// what was read last, or has something else in its place. It cannot be told where that was deleted, or nothing is in memory.
func (t *Tail) wentBack(ctx context.Context, st State, read uint64) (bool, error) {
	r := t.current()
	if r == nil || r.epoch != st.Epoch {
		return false, nil
	}
	if st.Last < read {
		return true, nil
	}
	seq, stored, ok := r.newest()
	if !ok {
		return false, nil
	}
	m, found, err := t.stream.leaderNext(ctx, ">", seq-1)
	return found && m.Seq == seq && !m.Time.Equal(stored), err
}

// warmFrom says behind which seq to begin so that the ring will be about full.
func (t *Tail) warmFrom(st State) uint64 {
	before := st.Before()
	if st.Msgs == 0 || int64(st.Bytes) <= t.cfg.MaxBytes {
		return before
	}
	fits := uint64(float64(t.cfg.MaxBytes) / float64(st.Bytes) * float64(st.Msgs))
	return max(before, st.Last-min(st.Last, fits))
}
