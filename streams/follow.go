package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// follow reads the stream with one consumer until something is odd about it, or the connection breaks: what was on its way is
// lost then, messages and answers alike.
func (t *Tail) follow(ctx context.Context) error {
	nc := t.stream.nc
	status := nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)
	defer nc.RemoveStatusListener(status)
	for !nc.IsConnected() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-status:
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel(nil)
	watcher.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case s := <-status:
				if s != nats.CONNECTED {
					cancel(fmt.Errorf("%w: NATS %s", errAnew, strings.ToLower(s.String())))
				}
			}
		}
	})
	err := t.consumeAll(ctx, cancel)
	return cmp.Or(context.Cause(ctx), err)
}

func (t *Tail) consumeAll(ctx context.Context, cancel context.CancelCauseFunc) error {
	r, last, err := t.begin(ctx)
	if err != nil {
		return err
	}
	defer t.watchRemovals(ctx, r)()
	warm := warming{t: t, ring: r, from: r.position(), to: last}
	c, err := t.consume(ctx, r, cancel)
	if err != nil {
		return err
	}
	defer c.stop()
	t.refused.Store(nil)
	if _, err := t.settle(ctx, c, last); err != nil {
		return err
	}
	poll := time.NewTicker(t.cfg.Poll)
	defer poll.Stop()
	seen, told, moved := r.position(), last, time.Now() // at the last look, and when the Tail last moved
	var soon <-chan time.Time                           // looks that are asked for at about the same time are one
	progress := time.NewTicker(100 * time.Millisecond)
	defer progress.Stop()
	for {
		if warm.done() {
			progress.Stop()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-progress.C:
			continue
		case <-t.kick:
			if soon == nil {
				soon = time.After(lookWithin)
			}
			continue
		case <-soon:
			soon = nil
		case <-poll.C:
		}
		before, holes := r.position(), r.holesFound() // messages come while the stream is asked
		st, info, err := t.stream.look(ctx)
		if err != nil {
			return err
		}
		t.last.Store(st.Last)
		t.keepSettings(ctx, info)
		if again, err := t.enter(ctx, st, st.Last < before, r.holeBefore(st.Expired)); err != nil || again != r {
			return cmp.Or(err, errAnew)
		}
		t.saw()
		r.bound(st.Last, holes)
		at := r.position()
		fresh := at > seen || st.Last > told
		if told = st.Last; at > seen || at >= st.Last {
			seen, moved = at, time.Now()
		}
		switch {
		case at >= st.Last:
			continue
		case fresh: // the rest is on its way, it seems
			soon = time.After(lookWithin)
			continue
		}
		disputed, err := t.settle(ctx, c, st.Last)
		switch {
		case err != nil:
			return err
		case disputed:
			moved = time.Now() // nothing may be all there is
		case time.Since(moved) > max(stuckAfter, c.silence):
			return fmt.Errorf("%w: nothing came for %s", errAnew, time.Since(moved).Round(time.Millisecond))
		}
	}
}

// saw notes that the stream has answered.
func (t *Tail) saw() {
	now := time.Now()
	t.seen.Store(&now)
}

// begin looks at the stream, and returns the ring to go on with and how far the stream goes.
func (t *Tail) begin(ctx context.Context) (r *ring, last uint64, err error) {
	old, read, reconnects := t.current(), uint64(0), t.stream.nc.Stats().Reconnects
	if old != nil {
		read = old.position()
	}
	st, info, err := t.stream.look(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		t.log.Warn().Str("stream", t.stream.name).Msg("stream deleted; creating it again")
		if old != nil && t.looked.Load() == reconnects+1 { // else it was deleted long ago, or the server is another one
			if err := t.awaitDeletion(ctx); err != nil {
				return nil, 0, err
			}
		}
		if err := t.stream.ensure(ctx); err != nil {
			return nil, 0, err
		}
		st, info, err = t.stream.look(ctx)
	}
	if err != nil {
		return nil, 0, err
	}
	select {
	case <-t.deleted: // one before this stream
	default:
	}
	t.keepSettings(ctx, info)
	t.last.Store(st.Last)
	wentBack, err := t.wentBack(ctx, st, read)
	if err != nil {
		return nil, 0, err
	}
	missed := old != nil && st.Expired > read
	if r, err = t.enter(ctx, st, wentBack, missed); err != nil {
		return nil, 0, err
	}
	t.looked.Store(reconnects + 1)
	t.saw()
	if r != old {
		return r, st.Last, nil
	}
	r.absent(st.Last, st.MaxMsgsPerSubject)
	return r, st.Last, nil
}

// settle moves the ring on where the stream's last messages are deleted: nothing will come for those sequences. It leaves it where
// that is disputed. The consumer is asked first: the stream's answer would hold the whole of the next message.
func (t *Tail) settle(ctx context.Context, c *consuming, last uint64) (disputed bool, err error) {
	r := c.ring
	if r.position() >= last {
		return false, nil
	}
	if more, err := c.more(ctx); err != nil || more {
		return false, err // it will bring it
	}
	through := r.position() // which may have come meanwhile
	if through >= last {
		return false, nil
	}
	_, found, err := t.stream.leaderNextSure(ctx, ">", through)
	switch {
	case errors.Is(err, errDisputed):
		return true, nil
	case err != nil || found:
		return false, err // the consumer has yet to see it; where it lies past last, it is seen that something is missing before it
	}
	// A server that is stopping finds nothing either: believe it only if the stream still answers.
	again, err := t.stream.State(ctx)
	if err != nil {
		return false, err
	}
	if again.Epoch != r.epoch || again.Last < last {
		return false, errAnew
	}
	r.advance(last)
	return false, nil
}

// add puts a message behind all others.
func (t *Tail) add(r *ring, m *Message) {
	if !canonical(m.Subject) {
		t.oddLog.Warn().Str("subject", m.Subject).Uint64("seq", m.Seq).
			Msg("stored for nobody: encode names as the contract says, upper-case hex for all that must be encoded and nothing else")
	}
	if r.append(m, t.cfg.Encode) {
		t.look()
	}
}

// warming reports how far the Tail is filled, once a second, until it is.
type warming struct {
	t        *Tail
	ring     *ring
	from, to uint64
	last     time.Time
}

func (w *warming) done() bool {
	select {
	case <-w.t.ready:
		return true
	default:
	}
	at := w.ring.position()
	if at >= w.to {
		w.t.log.Info().Uint64("seq", at).Uint64("messages", at-w.from).Msg("warm")
		close(w.t.ready)
		return true
	}
	if w.last.IsZero() {
		w.last = time.Now()
	} else if time.Since(w.last) > time.Second {
		w.last = time.Now()
		w.t.log.Info().Msgf("warming: %d of %d messages in memory", at-w.from, w.to-w.from)
	}
	return false
}
