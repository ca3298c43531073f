package streams

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// Users lists and forgets users: what an operator asks of the stream.
type Users struct {
	stream *Stream
	store  *durables
}

// Users returns the users of the stream.
func (s *Stream) Users() *Users {
	return &Users{stream: s, store: &durables{stream: s, replicas: s.cfg.CursorReplicas}}
}

// List returns every cursor, by user and device. It asks the server about all of them: 0.7 s for 3,000. Where some could not be read
// the error wraps ErrIncomplete, beside the others.
func (u *Users) List(ctx context.Context) ([]CursorState, error) {
	st, err := u.stream.State(ctx)
	if err != nil {
		return nil, err
	}
	all, err := u.store.list(ctx, func(CursorState) bool { return true })
	for i := range all {
		all[i].Over = all[i].Epoch != st.Epoch
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].User != all[j].User {
			return all[i].User < all[j].User
		}
		return all[i].Device < all[j].Device
	})
	return all, err
}

// Find returns one cursor, and the epoch of the stream: two requests, 0.1 to 0.2 ms each. It is not found before a client has
// connected with it.
func (u *Users) Find(ctx context.Context, id CursorID) (st CursorState, epoch string, found bool, err error) {
	now, err := u.stream.State(ctx)
	if err != nil {
		return CursorState{}, "", false, err
	}
	st, err = u.store.read(ctx, id)
	if errors.Is(err, errNoCursor) {
		return CursorState{}, now.Epoch, false, nil
	}
	st.Over = st.Epoch != now.Epoch
	return st, now.Epoch, err == nil, err
}

// Forget removes a user's cursors, and the notifications on the user's subject too where messages says so. A connected user is not
// disconnected by it, and gets a cursor again at the next acknowledgement. It returns how many cursors and messages went. While a
// cursor cannot be read, whose it may be, nothing goes: ErrIncomplete.
func (u *Users) Forget(ctx context.Context, user string, messages bool) (cursors int, purged uint64, err error) {
	subject, err := UserSubject(user)
	if err != nil {
		return 0, 0, err
	}
	all, err := u.store.list(ctx, func(st CursorState) bool { return st.User == user })
	if err != nil {
		return 0, 0, err
	}
	for _, st := range all {
		if err := u.store.remove(ctx, st); err != nil {
			return cursors, 0, err
		}
		cursors++
	}
	if !messages {
		return cursors, 0, nil
	}
	had, err := u.stream.Count(ctx, subject) // nats.go does not tell how many a purge took
	if err != nil {
		return cursors, 0, fmt.Errorf("purge: %w", err)
	}
	stream, err := u.stream.js.Stream(ctx, u.stream.name)
	if err != nil {
		return cursors, 0, fmt.Errorf("purge: %w", explain(err))
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return cursors, 0, fmt.Errorf("purge %s: %w", subject, explain(err))
	}
	return cursors, had, nil
}

// ForgetDevice removes one cursor: that of a device, which then counts no longer among those that a user may have. It says whether
// there was one.
func (u *Users) ForgetDevice(ctx context.Context, id CursorID) (forgotten bool, err error) {
	st, err := u.store.read(ctx, id)
	if errors.Is(err, errNoCursor) {
		return false, nil
	}
	if err == nil {
		err = u.store.remove(ctx, st)
	}
	return err == nil, err
}

// Janitor removes the cursors of users who never came back, once an hour, until ctx is done.
type Janitor struct {
	stream *Stream
	store  *durables
	every  time.Duration
	log    zerolog.Logger
}

// NewJanitor returns the janitor of the stream's cursors.
func NewJanitor(s *Stream, log zerolog.Logger) *Janitor {
	return &Janitor{stream: s, store: &durables{stream: s, replicas: s.cfg.CursorReplicas}, every: time.Hour, log: log}
}

// Run sweeps until ctx is done.
func (j *Janitor) Run(ctx context.Context) error {
	tick := time.NewTicker(j.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if removed, err := j.Sweep(ctx); err != nil && ctx.Err() == nil {
				j.log.Warn().Err(err).Msg("sweeping cursors")
			} else if removed > 0 {
				j.log.Info().Int("removed", removed).Msg("removed cursors of users who are long gone")
			}
		}
	}
}

// Sweep removes every cursor whose position and topics_from have both lain before the stream's first message for longer
// than MaxAge: all that its user could have missed is gone. So does one of an epoch that was over by then. Since when is
// written into the cursor's own metadata, with the position that it goes for, so that gateways share it and a cursor that moves
// is safe. A cursor that fails does not keep the others.
func (j *Janitor) Sweep(ctx context.Context) (removed int, err error) {
	st, err := j.stream.State(ctx)
	if err != nil || st.MaxAge <= 0 {
		return 0, err
	}
	stale, err := j.store.list(ctx, func(cur CursorState) bool {
		return cur.Epoch != st.Epoch || cur.Seq < st.Expired && cur.TopicsFrom < st.Expired
	})
	if err != nil && !errors.Is(err, ErrIncomplete) { // those that cannot be read have their turn another time
		return 0, err
	}
	for _, cur := range stale {
		since, known := staleSince(cur)
		var failed error
		switch {
		case !known:
			failed = j.markStale(ctx, cur, st.Now)
		case st.Now.Sub(since) > st.MaxAge:
			now, err := j.store.read(ctx, cur.CursorID) // the listing may be minutes old
			switch {
			case errors.Is(err, errNoCursor):
			case err != nil:
				failed = err
			case now.Seq == cur.Seq && now.stale == cur.stale:
				if failed = j.store.remove(ctx, cur); failed == nil {
					removed++
				}
			}
		}
		err = errors.Join(err, failed)
		if errors.Is(failed, context.DeadlineExceeded) || ctx.Err() != nil {
			break // NATS is away
		}
	}
	return removed, err
}

func staleSince(cur CursorState) (time.Time, bool) {
	seq, at, _ := strings.Cut(cur.stale, "@")
	since, err := time.Parse(time.RFC3339, at)
	return since, err == nil && seq == strconv.FormatUint(cur.Seq, 10)
}

func (j *Janitor) markStale(ctx context.Context, cur CursorState, now time.Time) error {
	consumer, err := j.stream.js.Consumer(ctx, j.stream.name, cur.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil
	}
	if err != nil {
		return explain(err)
	}
	cfg := consumer.CachedInfo().Config
	cfg.Metadata[metadataStale] = fmt.Sprintf("%d@%s", cur.Seq, now.UTC().Format(time.RFC3339))
	if _, err := j.stream.js.UpdateConsumer(ctx, j.stream.name, cfg); err != nil {
		return fmt.Errorf("mark cursor %s: %w", cur.CursorID, explain(err))
	}
	return nil
}
