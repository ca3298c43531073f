package streams

import (
	"context"
	"errors"
	"time"
)

// TailStats is how a Tail is doing.
type TailStats struct {
	Messages int    // in memory
	Bytes    int64  // what they count of MaxBytes
	MaxBytes int64  // of the TailConfig
	Through  uint64 // the stream has been read up to this seq
	Last     uint64 // the stream's last seq, as last seen: when somebody came, and at every Poll
	Warm     bool   // Ready is closed
	Waiting  int    // readers that wait for a turn at reading the stream
	Unfit    bool   // a setting of the stream is wrong, and was not put back
}

// Stats costs two short locks.
func (t *Tail) Stats() TailStats {
	st := TailStats{MaxBytes: t.cfg.MaxBytes, Last: t.last.Load(), Unfit: t.settingsProblem() != nil}
	select {
	case <-t.ready:
		st.Warm = true
	default:
	}
	t.desk.mu.Lock()
	st.Waiting = t.desk.count
	t.desk.mu.Unlock()
	if r := t.current(); r != nil {
		r.mu.RLock()
		defer r.mu.RUnlock()
		st.Messages, st.Bytes, st.Through = int(r.next-r.first), r.bytes, r.through
	}
	st.Last = max(st.Last, st.Through)
	return st
}

// ColdRead is one turn, or a slice of one, at reading the stream for readers whose positions are older than the Tail.
type ColdRead struct {
	Sweep    bool // for many readers at once; else for one alone
	Readers  int
	Messages int // read of the stream, also where nobody wanted them
	Took     time.Duration
	Failed   bool // they got an error, perhaps beside messages, and come again
}

// ObserveColdReads has f called after each. It is to be called before Run; f is called by many goroutines, and must not wait.
func (t *Tail) ObserveColdReads(f func(ColdRead)) { t.onColdRead = f }

func (t *Tail) coldReadDone(r ColdRead, began time.Time) {
	if t.onColdRead != nil {
		r.Took = time.Since(began)
		t.onColdRead(r)
	}
}

// CursorsStats is how Cursors are doing.
type CursorsStats struct {
	Held    int // in memory: those of connections, and those not yet committed
	Pending int // acknowledged further than committed, and not just being committed
}

// Stats costs a short lock.
func (c *Cursors) Stats() CursorsStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CursorsStats{Held: len(c.cursors), Pending: len(c.dirty)}
}

// CommitResult says what became of a commit.
type CommitResult string

// The results of commits.
const (
	CommitMoved   CommitResult = "moved"
	CommitSkipped CommitResult = "skipped" // another gateway has moved the cursor as far
	CommitGone    CommitResult = "gone"    // there is no such cursor any more, and its user is not connected
	CommitFailed  CommitResult = "failed"  // it is tried again
)

// ObserveCommits has f called after each commit that asked the stream, with the time that took. It is to be called before Run and
// Attach; f is called by many goroutines, and must not wait.
func (c *Cursors) ObserveCommits(f func(result CommitResult, took time.Duration)) { c.onCommit = f }

func (c *Cursors) committed(ctx context.Context, moved bool, err error, took time.Duration) {
	if c.onCommit == nil || err != nil && ctx.Err() != nil { // whoever wanted it does no more
		return
	}
	result := CommitSkipped
	switch {
	case errors.Is(err, errNoCursor):
		result = CommitGone
	case err != nil:
		result = CommitFailed
	case moved:
		result = CommitMoved
	}
	c.onCommit(result, took)
}
