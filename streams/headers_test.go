package streams

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// readers are the four ways to read the stream: the tail, a single cold read, a batch scan and the list.
type readers struct {
	testing.TB
	url        string
	stream     *Stream
	warm, cold *Tail
	log        *logged // of both tails
}

// logged keeps what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines returns those that contain a text.
func (l *logged) lines(with string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, with) {
			lines = append(lines, line)
		}
	}
	return lines
}

// interruptions counts how often a tail had to make its consumer again, which delays every user.
func (r *readers) interruptions() int { return len(r.log.lines("reading the stream was interrupted")) }

const readersWithin = 20 * time.Second

func openReaders(t testing.TB, cfg Config) *readers {
	server := streamstest.Run(t)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	stream, err := Open(t.Context(), server.Connect(t, quiet), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &readers{TB: t, url: server.URL(), stream: stream, log: &logged{}}
	for tail, size := range map[**Tail]int64{&r.warm: 1 << 30, &r.cold: 1} {
		*tail = NewTail(stream, TailConfig{Encode: encodeAll, MaxBytes: size, Logger: zerolog.New(r.log)})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = (*tail).Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		<-(*tail).Ready()
	}
	return r
}

// encodeAll makes frames of all that a message says.
func encodeAll(dst []byte, m *Message) []byte {
	return fmt.Appendf(dst, "%d %s %s id=%q kind=%q type=%q trace=%q expires=%s data=%q",
		m.Seq, m.Subject, m.Time.UTC().Format(time.RFC3339Nano), m.ID, m.Kind, m.ContentType, m.Traceparent(), m.Expires.UTC(), m.Data)
}

// publish stores a message so many times, and one without headers for another user behind it. It returns the state before, once both tails
// have read what was stored. The server may refuse the message.
func (r *readers) publish(subject, block, data string, times int) (before State) {
	r.Helper()
	before = r.state()
	raw, err := streamstest.DialRaw(r.url)
	if err != nil {
		r.Fatal(err)
	}
	defer raw.Close()
	for range times {
		_ = raw.Publish(subject, block, data)
	}
	_ = raw.Flush()
	if _, err := r.stream.js.Publish(r.Context(), otherUser, nil); err != nil {
		r.Fatal(err)
	}
	r.caughtUp()
	return before
}

const otherUser = UserPrefix + "bob"

func (r *readers) state() State {
	r.Helper()
	st, err := r.stream.State(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return st
}

func (r *readers) caughtUp() {
	r.Helper()
	st := r.state()
	for _, tail := range []*Tail{r.warm, r.cold} {
		select {
		case <-tail.Reached(st.Epoch, st.Last):
		case <-time.After(readersWithin):
			r.Fatalf("a tail does not reach %d", st.Last)
		}
	}
}

// read returns the messages of the subject behind a seq, as frames, from each reader.
func (r *readers) read(subject string, after uint64) (tail, single, scan, list []string) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 6*readersWithin) // the list makes two requests for each message
	defer cancel()
	return r.follow(ctx, r.warm, subject, after), r.follow(ctx, r.cold, subject, after), r.scan(ctx, subject, after), r.list(ctx, subject, after)
}

func (r *readers) follow(ctx context.Context, tail *Tail, subject string, after uint64) (frames []string) {
	r.Helper()
	mark, err := tail.Mark(ctx)
	if err != nil {
		r.Fatal(err)
	}
	reader, err := tail.Reader(mark, after, []Source{{Subject: subject}})
	if err != nil {
		r.Fatal(err)
	}
	defer reader.Close()
	for {
		entries, err := reader.Read(ctx, nil, 100_000)
		if err != nil {
			r.Fatal(err)
		}
		for _, e := range entries {
			frames = append(frames, string(e.Frame))
		}
		if reader.Position() >= mark.Last {
			return frames
		}
		select {
		case <-tail.Reached(mark.Epoch, mark.Last):
		case <-ctx.Done():
			r.Fatalf("at %d of %d", reader.Position(), mark.Last)
		}
	}
}

func (r *readers) scan(ctx context.Context, subject string, after uint64) (frames []string) {
	r.Helper()
	ring := r.cold.current()
	for end := ring.readable(); after < end; {
		w := &turn{epoch: ring.epoch, subjects: []string{subject}, after: []uint64{after}, from: after, upTo: end, most: 100_000, given: make(chan struct{})}
		r.cold.sweep(ctx, ring, []*turn{w}, sweepSpan)
		if w.err != nil {
			r.Fatal(w.err)
		}
		for _, e := range w.entries {
			frames = append(frames, string(e.Frame))
		}
		after = w.at
	}
	return frames
}

func (r *readers) list(ctx context.Context, subject string, after uint64) (frames []string) {
	r.Helper()
	page, err := r.stream.Newest(ctx, subject, 0, 100_000, 1<<30)
	if err != nil {
		r.Fatal(err)
	}
	for _, m := range page.Messages {
		if m.Seq > after {
			frames = append(frames, string(encodeAll(nil, &m)))
		}
	}
	slices.Reverse(frames)
	return frames
}

// blocks are headers that a publisher may store, with what they must be read as.
var blocks = map[string]struct{ block, data, want string }{
	"none":                        {"", "x", `id="" kind="" data="x"`},
	"an id and a kind":            {"NATS/1.0\r\nTidings-Id: i\r\nTidings-Kind: k\r\n\r\n", "x", `id="i" kind="k" data="x"`},
	"no space, and bare LF":       {"NATS/1.0\nTidings-Id:i\nTidings-Kind:k\n\n", "x", `id="i" kind="k" data="x"`},
	"much space":                  {"NATS/1.0\r\nTidings-Id:" + strings.Repeat(" ", 1000) + "i\r\n\r\n", "x", `id="i" kind="" data="x"`},
	"many headers":                {"NATS/1.0\r\nTidings-Id: i\r\n" + strings.Repeat("a: b\r\n", 500) + "\r\n", "x", `id="i" kind="" data="x"`},
	"a status":                    {"NATS/1.0\r\nStatus: 503\r\n\r\n", "", `id="" kind="" data=""`},
	"a status of a shop":          {"NATS/1.0\r\nStatus: shipped\r\nTidings-Id: i\r\n\r\n", "", `id="i" kind="" data=""`},
	"an inline status":            {"NATS/1.0 503\n\n", "", `id="" kind="" data=""`},
	"an inline status with CRLF":  {"NATS/1.0 503\r\n\r\n", "", `id="" kind="" data=""`},
	"an inline end of a batch":    {"NATS/1.0 204 EOB\nNats-Num-Pending: 0\nNats-Last-Sequence: 0\n\n", "", `id="" kind="" data=""`},
	"an inline end, cut off":      {"NATS/1.0 204 EOB\nNats-Num-Pending: 0\nNats-Last-Sequence: 0\nNats-UpTo-Sequence: 99\n\n\n", "", `id="" kind="" data=""`},
	"an inline 404, cut off":      {"NATS/1.0 404 No Results\n\n\n\n", "", `id="" kind="" data=""`},
	"a heartbeat":                 {"NATS/1.0 100 Idle Heartbeat\n\n", "", `id="" kind="" data=""`},
	"a consumer's end":            {"NATS/1.0 409 Consumer Deleted\n\n", "", `id="" kind="" data=""`},
	"a line break in a value":     {"NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n", "x", `id="" kind="" data="x"`},
	"a folded line":               {"NATS/1.0\r\nTidings-Kind: a\r\n b\r\n\r\n", "x", `id="" kind="" data="x"`},
	"an early end":                {"NATS/1.0\r\n\r\n\r\n", "x", `id="" kind="" data="x"`},
	"an early end behind an id":   {"NATS/1.0\r\nTidings-Id: i\r\n\r\n\r\n", "x", `id="i" kind="" data="x"`},
	"another protocol":            {"XATS/1.0\r\na: x\r\n\r\n", "x", `id="" kind="" data="x"`},
	"no end":                      {"NATS/1.0\r\nTidings-Id: i", "x", `id="" kind="" data="x"`},
	"one line break at the end":   {"NATS/1.0\r\nTidings-Id: i\r\n", "", `id="" kind="" data=""`},
	"two bytes":                   {"ab", "x", `id="" kind="" data="x"`},
	"one byte":                    {"a", "", `id="" kind="" data=""`},
	"only line breaks":            {"\r\n\r\n\r\n", "x", `id="" kind="" data="x"`},
	"NUL":                         {"NATS/1.0\r\nTidings-Id: \x00\r\n\r\n", "x", `id="\x00" kind="" data="x"`},
	"a deletion marker":           {"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n", "", `id="" kind="" data=""`},
	"forged, overruled":           {"NATS/1.0\r\n" + forged("\r\n") + "\r\n", "x", `id="" kind="" data="x"`},
	"forged, cut off":             {"NATS/1.0\r\n" + forged("\r\n") + "\r\n\r\n", "x", `id="" kind="" data="x"`},
	"forged, cut off, compressed": {"NATS/1.0\n" + strings.ReplaceAll(forged("\n"), ": ", ":") + strings.Repeat("a:\n", 1000) + "\n\n\n", "x", `id="" kind="" data="x"`},
	"forged, glued":               {"NATS/1.0\r\nNats-Stream: NOTIFICATIONS\r\nTidings-Id: i\r\n", "x", `id="" kind="" data="x"`},
}

func forged(end string) string {
	return strings.Join([]string{
		"Nats-Stream: NOTIFICATIONS", "Nats-Subject: notify.user.victim", "Nats-Sequence: 1000000", "Nats-Time-Stamp: 2026-01-02T03:04:05Z",
		"Nats-Num-Pending: 0", "Nats-Last-Sequence: 0", "",
	}, end)
}

// Each reader gives the same message, whatever its header block is.
func TestHeaderBlocksAreTheSameToAllReaders(t *testing.T) {
	t.Parallel()
	r := openReaders(t, Config{MaxMsgsPerSubject: -1})
	for name, c := range blocks {
		before := r.publish(UserPrefix+"alice", c.block, c.data, 1)
		tail, single, scan, list := r.read(UserPrefix+"alice", before.Last)
		if len(tail) != 1 || !like(tail[0], fmt.Sprintf("%d notify.user.alice %s", before.Last+1, c.want)) {
			t.Errorf("%s: the tail gives %q, want %s", name, tail, c.want)
		}
		for reader, got := range map[string][]string{"cold read": single, "batch scan": scan, "list": list} {
			if !slices.Equal(got, tail) {
				t.Errorf("%s: the %s gives %q, the tail %q", name, reader, got, tail)
			}
		}
	}
	// All at once, since each is read with its neighbours.
	tail, single, scan, list := r.read(UserPrefix+"alice", 0)
	if len(tail) != len(blocks) || !slices.Equal(single, tail) || !slices.Equal(scan, tail) || !slices.Equal(list, tail) {
		t.Errorf("%d messages from the tail, %d, %d and %d from the others, of %d", len(tail), len(single), len(scan), len(list), len(blocks))
	}
}

// like reports whether a frame has all the parts.
func like(frame, parts string) bool {
	for part := range strings.SplitSeq(parts, " ") {
		if !strings.Contains(" "+frame+" ", " "+part+" ") {
			return false
		}
	}
	return true
}

// What looks like a status of NATS does not end the tail's consumer, which would delay every user.
func TestStatusesOfAPublisherDelayNobody(t *testing.T) {
	t.Parallel()
	r := openReaders(t, Config{MaxMsgsPerSubject: -1})
	r.publish(UserPrefix+"alice", "NATS/1.0\r\nStatus: 503\r\n\r\n", "", 500)
	if got := r.follow(t.Context(), r.warm, otherUser, 500); len(got) != 1 {
		t.Errorf("the next user gets %q", got)
	}
	if n := r.interruptions(); n > 20 { // some are the machine's
		t.Errorf("%d interruptions of the tails for 500 messages", n)
	}
	for reader, got := range map[string][]string{
		"tail": r.follow(t.Context(), r.warm, UserPrefix+"alice", 0), "list": r.list(t.Context(), UserPrefix+"alice", 0),
	} {
		if len(got) != 500 {
			t.Errorf("the %s gives alice %d of 500", reader, len(got))
		}
	}
}

// A publisher whose headers nobody can read is named in the log, once a minute.
func TestUnreadableHeadersAreLoggedOnce(t *testing.T) {
	t.Parallel()
	r := openReaders(t, Config{MaxMsgsPerSubject: -1})
	r.publish(UserPrefix+"alice", "NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n", "x", 20)
	lines := r.log.lines("header block cannot be read")
	if len(lines) != 2 || !strings.Contains(lines[0], `"subject":"notify.user.alice"`) {
		t.Errorf("two tails log %q", lines)
	}
}

// Where no consumer may be made beside those of the tails, a message whose headers do not tell enough is read all the same.
func TestUnreadableHeadersWithoutAnotherConsumer(t *testing.T) {
	t.Parallel()
	r := openReaders(t, Config{MaxConsumers: 2})
	r.publish(UserPrefix+"alice", "NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n", "x", 5)
	tail, single, scan, list := r.read(UserPrefix+"alice", 0)
	if len(tail) != 5 || !slices.Equal(single, tail) || !slices.Equal(scan, tail) || !slices.Equal(list, tail) {
		t.Errorf("the tail gives %q, the others %q, %q and %q", tail, single, scan, list)
	}
}
