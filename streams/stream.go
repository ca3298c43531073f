// Package streams keeps notifications in a NATS JetStream stream and reads them back.
//
// A Stream is opened once. A Publisher stores notifications in it. A Tail reads it, once per process, into memory; a Reader is
// a position in it with the subjects that one connection may read, served from the Tail or, where it lies further back,
// from the stream. Cursors remember how far each user acknowledged, in one durable consumer per user.
package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says what the stream should be. Zero fields mean the default where the stream is made, and what is already there
// where it exists.
type Config struct {
	Name              string        // "NOTIFICATIONS"
	MaxAge            time.Duration // 30 days
	MaxMsgsPerSubject int64         // 1,000
	MaxBytes          int64         // no limit but the server's
	MaxNotification   int           // bytes of data in one notification: 256 KiB
	Duplicates        time.Duration // window in which an id counts: 2 minutes
	Replicas          int           // 1
	CursorReplicas    int           // of the durable consumers: those of the stream
	MaxConsumers      int           // 1,000,000, or what the NATS account allows; never shrinks
}

// Defaults of Config.
const (
	DefaultName              = "NOTIFICATIONS"
	DefaultMaxAge            = 30 * 24 * time.Hour
	DefaultMaxMsgsPerSubject = 1000
	DefaultMaxNotification   = 256 << 10
	DefaultDuplicates        = 2 * time.Minute
	DefaultMaxConsumers      = 1_000_000
)

// LargestNotification is the most that Config.MaxNotification can be, in bytes: nats-server (2.15.2) stores no message in a file that has
// more than 32 MiB with its headers and subject, whatever its max_payload.
const LargestNotification = 32<<20 - 64<<10

// headerRoom is what MaxMsgSize of the stream allows for headers, in bytes.
const headerRoom = 8 << 10

const (
	minServer      = "2.14.0" // the first with CONSUMER.RESET
	requestTimeout = 5 * time.Second
)

// Errors of Open.
var (
	// ErrOldServer is wrapped where the NATS server lacks what Tidings needs.
	ErrOldServer = errors.New("NATS server too old")
	// ErrNoJetStream is wrapped where JetStream is off, or this account may not use it.
	ErrNoJetStream = errors.New("JetStream is not available")
	// ErrStreamMismatch is wrapped where an existing stream is not what Config asks for and cannot or must not be changed.
	ErrStreamMismatch = errors.New("the existing stream does not fit")
)

// Stream is the stream of notifications.
type Stream struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	name string
	cfg  Config
	pace pace // of cold reads

	generations generations
	delivering  chan struct{} // has room for one: readDelivered
}

// State is what the stream was at one instant.
type State struct {
	Epoch             string // tells this stream from one recreated or restored under the same name
	First, Last       uint64 // sequences; Last of an empty stream is that of the last message it held
	FirstTime         time.Time
	Expired           uint64    // up to here messages may be gone because of their age, or for another reason
	Now               time.Time // by the server's clock
	Msgs, Bytes       uint64
	MaxAge            time.Duration // 0: no limit
	MaxMsgsPerSubject int64         // <= 0: no limit
	Replicas          int

	disputed bool // another may answer beside the leader, or it may lack what it has yet to apply
}

// Before is the seq before the first: nothing up to there is left.
func (s State) Before() uint64 { return max(s.First, 1) - 1 }

// Open finds the stream or makes it, and sets what Tidings needs of it. It never shrinks a limit of an existing stream, since
// the server would delete what no longer fits: that, like a setting that cannot be changed, is an error wrapping
// ErrStreamMismatch.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Stream, error) {
	s, err := newStream(nc, cfg)
	if err != nil {
		return nil, err
	}
	return s, s.ensure(ctx)
}

// Find is Open for a tool: a stream that does not exist is an error, and one that does is left as it is.
func Find(ctx context.Context, nc *nats.Conn, cfg Config) (*Stream, error) {
	s, err := newStream(nc, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := s.State(ctx); err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = fmt.Errorf("%w (start a gateway, which makes it, or name the right --stream)", err)
		}
		return nil, err
	}
	return s, nil
}

func newStream(nc *nats.Conn, cfg Config) (*Stream, error) {
	if have := nc.ConnectedServerVersion(); have != "" && older(have, minServer) {
		return nil, fmt.Errorf("%w: %s runs %s, Tidings needs %s or later (upgrade nats-server, or use --data for the embedded one)",
			ErrOldServer, nc.ConnectedUrlRedacted(), have, minServer)
	}
	if cfg.MaxNotification > LargestNotification {
		return nil, fmt.Errorf("notifications of %d bytes: NATS stores at most %d (lower MaxNotification)", cfg.MaxNotification, LargestNotification)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		return nil, err
	}
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	return &Stream{nc: nc, js: js, name: cfg.Name, cfg: cfg, delivering: make(chan struct{}, 1)}, nil
}

// ensure makes the stream, or makes it fit.
func (s *Stream) ensure(ctx context.Context) error {
	for tries := 1; ; tries++ {
		have, err := s.js.Stream(ctx, s.name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			cfg := newConfig(s.cfg)
			made, err := s.js.CreateStream(ctx, cfg)
			if has(err, codeNoConsumers) { // more than the account allows, whose limit holds then
				cfg.MaxConsumers = -1
				made, err = s.js.CreateStream(ctx, cfg)
			}
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				continue // another gateway was faster
			}
			if has(err, codeNoStore) && tries < 10 {
				// The server may still be removing the directory of one that was deleted: it takes empty parents with it.
				if err := pause(ctx, 50*time.Millisecond); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return fmt.Errorf("create stream %s: %w", s.name, explain(err))
			}
			return s.purgeLeftovers(ctx, made)
		case err != nil:
			return fmt.Errorf("stream %s: %w", s.name, explain(err))
		}
		info := have.CachedInfo()
		generation, err := s.generation(ctx, info)
		if err != nil {
			return err
		}
		want, err := adjust(info, generation, s.cfg, 0)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.name, err)
		}
		if len(differences(info.Config, want)) == 0 {
			return nil
		}
		return s.update(ctx, info.Config, want)
	}
}

// Name is the stream's name.
func (s *Stream) Name() string { return s.name }

// MaxNotification is the most data that a notification may hold, in bytes.
func (s *Stream) MaxNotification() int { return cmp.Or(s.cfg.MaxNotification, DefaultMaxNotification) }

// State asks the stream's leader: one request, 0.1 to 0.2 ms of the server.
func (s *Stream) State(ctx context.Context) (State, error) {
	st, _, err := s.look(ctx)
	return st, err
}

// look is State, and the answer of the server that it is made of.
func (s *Stream) look(ctx context.Context) (State, *jetstream.StreamInfo, error) {
	info, err := s.bounded(ctx)
	if err != nil {
		return State{}, nil, err
	}
	generation, err := s.generation(ctx, info)
	if err != nil {
		return State{}, nil, err
	}
	st := State{
		Epoch: epoch(info.Created, generation),
		First: info.State.FirstSeq, Last: info.State.LastSeq, FirstTime: info.State.FirstTime, Now: info.TimeStamp,
		Msgs: info.State.Msgs, Bytes: info.State.Bytes,
		MaxAge: info.Config.MaxAge, MaxMsgsPerSubject: info.Config.MaxMsgsPerSubject,
		Replicas: info.Config.Replicas,
		disputed: disputed(info),
	}
	st.Expired = st.Before()
	if oldest := st.Now.Add(-st.MaxAge); st.MaxAge > 0 && st.Msgs > 0 && st.FirstTime.Before(oldest) {
		// Some messages outlive the stream's limit by their own Nats-TTL, which keeps First from moving.
		seq, found, err := s.firstSince(ctx, oldest)
		switch {
		case err != nil:
			return State{}, nil, err
		case found:
			st.Expired = max(st.Expired, seq-1)
		default:
			st.Expired = st.Last
		}
	}
	return st, info, nil
}

// Oldest returns the seq of the subject's oldest message.
func (s *Stream) Oldest(ctx context.Context, subject string) (seq uint64, found bool, err error) {
	m, found, err := s.leaderNext(ctx, subject, 0)
	return m.Seq, found, err
}

// Count returns how many messages the stream holds on the subject.
func (s *Stream) Count(ctx context.Context, subject string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.name)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", s.name, explain(err))
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", s.name, explain(err))
	}
	return info.State.Subjects[subject], nil
}

// NewEpoch starts a new epoch: every position of the old one becomes void, every client is told by a gap and starts at
// what its cursor can still vouch for. It is for a stream that went back in time.
func (s *Stream) NewEpoch(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout) // while a stream has no leader nothing is answered
	defer cancel()
	info, err := s.info(ctx)
	if err != nil {
		return State{}, fmt.Errorf("stream %s: %w", s.name, explain(err))
	}
	last, err := s.generation(ctx, info)
	if err != nil {
		return State{}, err
	}
	if err := s.update(ctx, info.Config, withGeneration(info.Config, nextGeneration(last))); err != nil {
		return State{}, fmt.Errorf("new epoch: %w", err)
	}
	st, err := s.State(ctx)
	if err == nil {
		_ = s.keepGeneration(ctx, info.Created) // or a gateway does
	}
	return st, err
}

// answer is the stream's, or a replica's.
func (s *Stream) answer(ctx context.Context) (info *jetstream.StreamInfo, err error) {
	err = s.askAgain(ctx, func(ctx context.Context) error {
		stream, err := s.js.Stream(ctx, s.name) // an INFO request, the same that Info would make
		if err == nil {
			info = stream.CachedInfo()
		}
		return err
	})
	return info, err
}

// epoch is the FNV-1a of the stream's creation and generation, so that all gateways agree without asking each other.
func epoch(created time.Time, generation string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s", created.UnixNano(), generation)
	return strconv.FormatUint(h.Sum64(), 36)
}

// explain adds what to do to an error of the JetStream API.
func explain(err error) error {
	if what, todo := refusal(err); what != "" {
		return fmt.Errorf("%s (%s): %w", what, todo, err)
	}
	switch {
	case has(err, codeOtherStream):
		return fmt.Errorf("another stream takes it (name it with --stream): %w", err)
	case has(err, codeBytesRequired, codeTooManyBytes):
		return fmt.Errorf("the NATS account limits the bytes of each stream (say how many with --max-bytes): %w", err)
	case has(err, codeNotClustered):
		return fmt.Errorf("this NATS is one server, not a cluster (leave out --replicas): %w", err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("no stream takes it (start a gateway, which makes the stream, or name the right --stream): %w", err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w (start nats-server with -js, enable JetStream for this account, or use --data for the embedded server): %w",
			ErrNoJetStream, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("no answer from JetStream (NATS away, no leader, or this user lacks permission on $JS.API.> or on its inbox: give --nats-inbox): %w", err)
	}
	return err
}

// explainDirect is explain for an error of a direct get. If the stream itself answers, JetStream is available.
func (s *Stream) explainDirect(ctx context.Context, err error) error {
	if !errors.Is(err, nats.ErrNoResponders) {
		return explain(err)
	}
	ctx, cancel := context.WithTimeout(ctx, keepWithin)
	defer cancel()
	switch info, unanswered := s.answer(ctx); {
	case unanswered != nil:
		return explain(err)
	case !info.Config.AllowDirect:
		return errNoDirect
	}
	return err
}

// older compares versions such as 2.14.0 and 2.15.0-RC.1 by their numbers.
func older(have, least string) bool {
	h, l := numbers(have), numbers(least)
	for i := range l {
		if h[i] != l[i] {
			return h[i] < l[i]
		}
	}
	return false
}

func numbers(version string) (n [3]int) {
	core, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	for i, part := range strings.SplitN(core, ".", 3) {
		n[i], _ = strconv.Atoi(part)
	}
	return n
}
