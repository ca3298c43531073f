package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// TailConfig says how much of the stream is kept in memory, and as what.
type TailConfig struct {
	// Encode appends what readers get of a message to dst. It is called once for each message in the Tail.
	Encode   func(dst []byte, m *Message) []byte
	MaxBytes int64         // of the encoded messages, 64 bytes more for each: 256 MiB
	Poll     time.Duration // how often the stream is looked at, whatever comes: 2 s
	Logger   zerolog.Logger
}

// Tail is the newest part of the stream in memory. It reads the stream once, in order, with a consumer of its own, for
// all readers of the process.
type Tail struct {
	stream *Stream
	cfg    TailConfig
	log    zerolog.Logger
	// Of what publishers do wrong, a line a minute each: names that are not encoded as they must be, and header blocks.
	oddLog, headerLog zerolog.Logger

	marks     chan chan<- markResult
	kick      chan struct{} // look at the stream now
	ready     chan struct{} // closed once warm
	desk      *desk         // of reads from the stream
	counts    counts
	replicas  atomic.Int32
	looked    atomic.Uint64             // 1 more than the number of reconnects when the stream was last found to be the one that is read
	seen      atomic.Pointer[time.Time] // when the stream last said how far it goes
	last      atomic.Uint64             // the stream's last seq, as it said then
	settings  settingsKeeper
	refused   atomic.Pointer[error] // why NATS refuses to have the stream read; nil: it does not
	onReplace func(epoch string)    // of Cursors

	onColdRead func(ColdRead)

	removals atomic.Pointer[removalWatch]
	deleted  chan struct{} // holds a value once the server has finished a deletion of the stream

	mu   sync.Mutex
	ring *ring // of the present epoch; nil before the stream was first seen
}

type markResult struct {
	State
	err error
}

var (
	// errAnew ends one consumer, so that the next begins with a look at the stream.
	errAnew = errors.New("the consumer must be made anew")

	errNotWarm = errors.New("the newest part of the stream is not in memory yet")
	errNotSeen = errors.New("the stream has not been looked at since NATS came back")
)

const (
	lookWithin = 20 * time.Millisecond
	markEvery  = time.Millisecond // or thousands who come at the same time would have the server count for each of them
	stuckAfter = 5 * time.Second  // without a message that the stream has

	newEpochWithin = 500 * time.Millisecond
)

// NewTail returns a Tail; Run fills it.
func NewTail(s *Stream, cfg TailConfig) *Tail {
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 256<<20)
	cfg.Poll = cmp.Or(cfg.Poll, 2*time.Second)
	return &Tail{
		stream: s, cfg: cfg, log: cfg.Logger, oddLog: minutely(cfg.Logger), headerLog: minutely(cfg.Logger),
		marks: make(chan chan<- markResult), kick: make(chan struct{}, 1), ready: make(chan struct{}),
		deleted: make(chan struct{}, 1),
		desk:    newDesk(), settings: settingsKeeper{tried: map[string]time.Time{}},
	}
}

func minutely(log zerolog.Logger) zerolog.Logger {
	return log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
}

// Ready is closed once the Tail holds what the stream held when Run began, as far as it fits.
func (t *Tail) Ready() <-chan struct{} { return t.ready }

// Check says why the Tail cannot be relied upon now: it is not warm, or the stream has not answered it for a while. It asks nobody:
// the Tail looks at the stream all the time.
func (t *Tail) Check() error {
	if err := t.refused.Load(); err != nil {
		return *err
	}
	select {
	case <-t.ready:
	default:
		return errNotWarm
	}
	if ago := time.Since(*t.seen.Load()); ago > 3*t.cfg.Poll {
		return fmt.Errorf("the stream has not answered for %s", ago.Round(time.Second))
	}
	if t.looked.Load() != t.stream.nc.Stats().Reconnects+1 {
		return errNotSeen
	}
	return t.settingsProblem()
}

// Run reads the stream until ctx is done. Where NATS is away it waits; readers keep what is in memory meanwhile.
func (t *Tail) Run(ctx context.Context) error {
	unwatch, err := t.watchAudit()
	if err != nil {
		return err
	}
	defer unwatch()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { t.answerMarks(ctx); return nil })
	g.Go(func() error { t.sweeps(ctx); return nil })
	for range coldReads {
		g.Go(func() error { t.coldReads(ctx); return nil })
	}
	g.Go(func() error {
		const least, most = 50 * time.Millisecond, 2 * time.Second
		for delay := least; ctx.Err() == nil; {
			err := t.follow(ctx)
			if ctx.Err() != nil {
				break
			}
			if delay = min(most, 2*delay); errors.Is(err, errAnew) {
				delay = least
			}
			if Refusal(err) != "" || errors.Is(err, ErrStreamMismatch) {
				t.refused.Store(&err)
			}
			t.log.Warn().Err(err).Dur("retry_in_ms", delay).Msg("reading the stream was interrupted")
			_ = pause(ctx, delay) // whose end the loop sees
		}
		return nil
	})
	return g.Wait()
}

// Mark returns the state of the stream at an instant after the call. Calls at the same time share one request. Until it is
// known that everything up to its Last has been read, a connection is not live.
func (t *Tail) Mark(ctx context.Context) (State, error) {
	answer := make(chan markResult, 1)
	select {
	case t.marks <- answer:
	case <-ctx.Done():
		return State{}, ctx.Err()
	}
	select {
	case m := <-answer:
		return m.State, m.err
	case <-ctx.Done():
		return State{}, ctx.Err()
	}
}

func (t *Tail) answerMarks(ctx context.Context) {
	var asked time.Time
	for {
		var waiting []chan<- markResult
		select {
		case <-ctx.Done():
			return
		case w := <-t.marks:
			waiting = append(waiting, w)
		}
		time.Sleep(time.Until(asked.Add(markEvery)))
		asked = time.Now()
		for more := true; more; {
			select {
			case w := <-t.marks:
				waiting = append(waiting, w)
			default:
				more = false
			}
		}
		st, err := t.stream.State(ctx)
		switch r := t.current(); {
		case err != nil || r == nil:
		case r.epoch != st.Epoch:
			t.look()
		case st.Replicas > 1: // a leader that slept through its own replacement has less than was read already
			st.Last = max(st.Last, r.position())
		}
		if err == nil {
			t.last.Store(st.Last)
		}
		for _, w := range waiting {
			w <- markResult{st, err}
		}
	}
}

// sound waits until the stream has been looked at over the present connection: what comes back after an absence may be another
// one than before. Still says, from then on, whether it is that connection.
func (t *Tail) sound(ctx context.Context) (still func() bool, err error) {
	nc := t.stream.nc
	for {
		reconnects := nc.Stats().Reconnects
		still = func() bool { return nc.Stats().Reconnects == reconnects && nc.IsConnected() }
		if t.looked.Load() == reconnects+1 && still() {
			return still, nil
		}
		if err := pause(ctx, lookWithin); err != nil {
			return nil, err
		}
	}
}

// Reached returns a channel that is closed once readers may read up to seq, or the epoch is over, which Read then tells. What the
// Tail has read is held back while it is not known whether the stream dropped something before it.
func (t *Tail) Reached(epoch string, seq uint64) <-chan struct{} {
	r := t.current()
	if r == nil || r.epoch != epoch {
		over := make(chan struct{})
		close(over)
		return over
	}
	if r.readable() < seq {
		t.look() // what was deleted at the stream's end never comes
	}
	return r.wait(seq)
}

func (t *Tail) look() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

func (t *Tail) current() *ring {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ring
}

// Epoch is the epoch that the Tail reads; empty before the stream was first seen.
func (t *Tail) Epoch() string {
	if r := t.current(); r != nil {
		return r.epoch
	}
	return ""
}
