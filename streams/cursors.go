package streams

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// CursorsConfig says how positions are committed. Zero fields mean the default.
type CursorsConfig struct {
	Interval   time.Duration // of one cursor's commits while its user is connected: 5 s
	Rate       float64       // commits per second of all cursors together: 1,000, about half a core of the server
	MaxDevices int           // of a user: 10
	// Committed is called with what the stream holds after a commit, from the goroutine that made it. Another gateway may have
	// moved the position further.
	Committed func(CursorState)
	Logger    zerolog.Logger
}

const (
	commitSoon    = 100 * time.Millisecond // after the first acknowledgement for a while
	commitWorkers = 16
	attachesMost  = 512 // in flight: the server drops all waiting API requests beyond 10,000
)

// Cursors remember how far each user acknowledged. Acknowledgements move them in memory at once, and in the stream in the
// background: soon after the first one, then at most once in an interval, when the user's last connection goes, and at the
// end. A crash between costs repeats, which clients drop.
//
// A position counts in the epoch of the Tail; all that is not yet committed is forgotten where that ends.
type Cursors struct {
	store *durables
	tail  *Tail
	cfg   CursorsConfig
	log   zerolog.Logger
	limit *rate.Limiter
	slots chan struct{}

	onCommit func(CommitResult, time.Duration)

	mu      sync.Mutex
	cursors map[CursorID]*cursor // that are attached, or not yet committed
	dirty   map[*cursor]struct{} // acknowledged further than committed
	settled map[CursorID]settledGap
}

type cursor struct {
	id    CursorID
	epoch string

	committing chan struct{} // has room for one: who moves it in the stream, so that the lower of two positions never comes last

	// Guarded by Cursors.mu.
	attached   int
	acked      uint64 // in memory
	committed  uint64 // in the stream, as far as known
	topicsFrom uint64
	lastCommit time.Time // when it was begun
	due        time.Time // of the next commit, while dirty
}

// NewCursors returns the cursors of the stream that the Tail reads. Run commits them.
func NewCursors(t *Tail, cfg CursorsConfig) *Cursors {
	cfg.Interval = cmp.Or(cfg.Interval, 5*time.Second)
	cfg.Rate = cmp.Or(cfg.Rate, 1000)
	cfg.MaxDevices = cmp.Or(cfg.MaxDevices, 10)
	c := &Cursors{
		store: &durables{stream: t.stream, replicas: t.stream.cfg.CursorReplicas, devices: cfg.MaxDevices, admitting: make(chan struct{}, 1)},
		tail:  t, cfg: cfg, log: cfg.Logger,
		limit:   rate.NewLimiter(rate.Limit(cfg.Rate), commitWorkers),
		slots:   make(chan struct{}, attachesMost),
		cursors: map[CursorID]*cursor{},
		dirty:   map[*cursor]struct{}{},
		settled: map[CursorID]settledGap{},
	}
	t.onReplace = c.forgetOthers
	return c
}

// Attach finds the cursor, or makes it, and holds it for a connection until Detach. Mark must be of the Tail, taken after
// the connection was admitted. Where the cursor is made, the user's topics begin behind topicsFrom: the mark's Last for a newcomer,
// which is also the most. Errors wrap ErrBadName, ErrTooManyDevices, ErrReplaced or what NATS said.
func (c *Cursors) Attach(ctx context.Context, id CursorID, mark State, topicsFrom uint64) (CursorState, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return CursorState{}, ctx.Err()
	}
	c.mu.Lock()
	known := c.cursors[id]
	c.mu.Unlock()
	if known != nil && known.epoch == mark.Epoch { // so that the client finds what it has acknowledged
		if err := c.commit(ctx, known); err != nil && !errors.Is(err, errNoCursor) {
			return CursorState{}, err
		}
	}
	st, err := c.store.open(ctx, id, mark, min(topicsFrom, mark.Last))
	if err != nil {
		return CursorState{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tail.Epoch() != mark.Epoch {
		return CursorState{}, ErrReplaced
	}
	cur := c.cursors[id]
	if cur == nil || cur.epoch != mark.Epoch {
		cur = &cursor{id: id, epoch: mark.Epoch, committing: make(chan struct{}, 1)}
		c.cursors[id] = cur
	}
	cur.attached++
	cur.topicsFrom = st.TopicsFrom
	cur.committed = st.Seq // which is less than before where the cursor was removed and made anew
	if cur.acked = max(cur.acked, st.Seq); cur.acked > cur.committed {
		c.commitAt(cur, time.Now())
	}
	return st, nil
}

// Ack moves an attached cursor forward in memory and has it committed in a while. A position of another epoch than the
// Tail's is dropped, as is one that is not ahead.
func (c *Cursors) Ack(id CursorID, epoch string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.cursors[id]
	if cur == nil || cur.epoch != epoch || seq <= cur.acked {
		return
	}
	cur.acked = seq
	due := time.Now().Add(commitSoon)
	if next := cur.lastCommit.Add(c.cfg.Interval); next.After(due) {
		due = next
	}
	c.commitAt(cur, due)
}

func (c *Cursors) commitAt(cur *cursor, due time.Time) {
	if _, already := c.dirty[cur]; !already || due.Before(cur.due) {
		cur.due = due
		c.dirty[cur] = struct{}{}
	}
}

// Carry is Ack for a position that nothing of the user's lies before: it is committed only where the cursor would otherwise
// come near the stream's first message, so that a user for whom nothing came for long does not return to a false gap. That is
// when it lags by an eighth of the stream; of a small one, by half.
func (c *Cursors) Carry(id CursorID, epoch string, seq uint64) {
	r := c.tail.current()
	if r == nil || r.epoch != epoch {
		return
	}
	r.mu.RLock()
	length := r.through - min(r.expired, r.through)
	r.mu.RUnlock()
	c.mu.Lock()
	cur := c.cursors[id]
	var lag uint64
	if cur != nil && cur.acked < seq {
		lag = seq - cur.acked
	}
	c.mu.Unlock()
	if lag >= 1000 && lag >= length/8 || lag > length/2 {
		c.Ack(id, epoch, seq)
	}
}

// Detach lets go of the cursor; what is not yet committed is, soon.
func (c *Cursors) Detach(id CursorID, epoch string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.cursors[id]
	if cur == nil || cur.epoch != epoch {
		return
	}
	cur.attached--
	switch {
	case cur.attached > 0: // then it is when it is due
	case cur.acked > cur.committed:
		c.commitAt(cur, time.Now())
	default:
		c.dropIdle(cur)
	}
}

func (c *Cursors) dropIdle(cur *cursor) {
	if _, dirty := c.dirty[cur]; !dirty && cur.attached <= 0 && c.cursors[cur.id] == cur {
		delete(c.cursors, cur.id)
	}
}

// forgetOthers drops everything of epochs that are over. Somebody may have attached in the new one already.
func (c *Cursors) forgetOthers(epoch string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.cursors, func(_ CursorID, cur *cursor) bool { return cur.epoch != epoch })
	maps.DeleteFunc(c.dirty, func(cur *cursor, _ struct{}) bool { return cur.epoch != epoch })
	c.forgetSettled(epoch)
}

// Run commits what is due until ctx is done.
func (c *Cursors) Run(ctx context.Context) error {
	tick := time.NewTicker(commitSoon / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			c.commitDue(ctx, now)
		}
	}
}

// Flush commits everything that is left, after Run and before the end. What fails is tried again; the error is ctx's where that
// took too long.
func (c *Cursors) Flush(ctx context.Context) error {
	for c.commitDue(ctx, time.Now().Add(24*time.Hour)); c.pending() > 0; c.commitDue(ctx, time.Now().Add(24*time.Hour)) {
		if err := pause(ctx, commitSoon); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cursors) pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.dirty)
}

// commitDue commits all cursors that are due by then, some at a time, and returns when all have been tried.
func (c *Cursors) commitDue(ctx context.Context, then time.Time) {
	c.mu.Lock()
	var due []*cursor
	for cur := range c.dirty {
		if !cur.due.After(then) {
			due = append(due, cur)
			delete(c.dirty, cur)
			cur.lastCommit = time.Now()
		}
	}
	c.mu.Unlock()
	var failed atomic.Int64
	var g errgroup.Group
	g.SetLimit(commitWorkers)
	for _, cur := range due {
		g.Go(func() error {
			err := c.limit.Wait(ctx)
			if err == nil {
				err = c.commit(ctx, cur)
			}
			if c.done(cur, err) {
				return nil
			}
			failed.Add(1)
			return err
		})
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil { // one line for them all: it is NATS that fails, not a cursor
		c.log.Warn().Err(err).Int64("cursors", failed.Load()).Msg("positions not committed, will try again")
	}
}

// commit moves the cursor in the stream to where it was acknowledged.
func (c *Cursors) commit(ctx context.Context, cur *cursor) error {
	select {
	case cur.committing <- struct{}{}:
		defer func() { <-cur.committing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	to := CursorState{CursorID: cur.id, Epoch: cur.epoch, Seq: cur.acked, TopicsFrom: cur.topicsFrom}
	committed, attached := cur.committed, cur.attached > 0
	c.mu.Unlock()
	if to.Seq <= committed {
		return nil
	}
	sound, err := c.tail.sound(ctx) // or it might go into an older copy of the stream, past its end
	if err != nil {
		return err
	}
	if cur.epoch != c.tail.Epoch() {
		return errNoCursor
	}
	began := time.Now()
	st, moved, err := c.store.commit(ctx, to, sound)
	if attached && ctx.Err() == nil && (errors.Is(err, errNoCursor) || errors.Is(err, context.DeadlineExceeded)) {
		// An operator removed it under a connected user, who has acknowledged none the less.
		st, moved, err = c.store.restore(ctx, to, sound)
	}
	c.committed(ctx, moved, err, time.Since(began))
	if err != nil {
		return err
	}
	c.mu.Lock()
	cur.committed = max(cur.committed, st.Seq)
	c.mu.Unlock()
	if c.cfg.Committed != nil {
		c.cfg.Committed(st)
	}
	return nil
}

// done notes how a commit went. What failed is tried again, but for a user who left and was forgotten.
func (c *Cursors) done(cur *cursor, err error) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok = err == nil || errors.Is(err, errNoCursor)
	if !ok && c.cursors[cur.id] == cur {
		again := time.Now()
		if !errors.Is(err, errUnsound) { // or the next waits until NATS is back
			again = again.Add(time.Second)
		}
		c.commitAt(cur, again)
	}
	c.dropIdle(cur)
	return ok
}
