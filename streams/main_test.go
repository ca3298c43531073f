package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestMain(m *testing.M) { streamstest.Main(m, streamstest.NoLeaks) }

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

func testContext(t testing.TB, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// encode makes frames that say what they are of.
func encode(dst []byte, m *streams.Message) []byte {
	return fmt.Appendf(dst, "%d %s %s", m.Seq, m.Subject, m.Data)
}

// gateway is what one process of ours has: the stream, its tail, and a publisher.
type gateway struct {
	testing.TB
	nc     *nats.Conn
	js     jetstream.JetStream
	stream *streams.Stream
	tail   *streams.Tail
	pub    *streams.Publisher
	swept  atomic.Int64 // messages read for many readers at once
}

// open opens the stream over the connection, without a tail.
func open(t testing.TB, nc *nats.Conn, cfg streams.Config) *gateway {
	t.Helper()
	var stream *streams.Stream
	streamstest.Eventually(t, patience, func() (err error) {
		stream, err = streams.Open(testContext(t, patience), nc, cfg)
		if err != nil && !streams.NotReady(err) { // a node of the cluster is yet unknown to its leader
			t.Fatal(err)
		}
		return err
	})
	pub, err := streams.NewPublisher(nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{TB: t, nc: nc, js: js, stream: stream, pub: pub}
}

// run opens the stream and runs a tail until the test ends.
func run(t testing.TB, nc *nats.Conn, cfg streams.Config, tail streams.TailConfig) *gateway {
	t.Helper()
	g := open(t, nc, cfg)
	if tail.Encode == nil {
		tail.Encode = encode
	}
	g.tail = streams.NewTail(g.stream, tail)
	g.tail.ObserveColdReads(func(r streams.ColdRead) {
		if r.Sweep && r.Readers > 1 && r.Took > 0 && !r.Failed {
			g.swept.Add(int64(r.Messages))
		}
	})
	start(t, g.tail.Run)
	select {
	case <-g.tail.Ready():
	case <-time.After(patience):
		t.Fatal("the tail did not get ready")
	}
	return g
}

// start runs something until the test ends, and waits for its end.
func start(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("it does not end")
		}
	})
}

func userSubject(t testing.TB, user string) string {
	t.Helper()
	subject, err := streams.UserSubject(user)
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

func topicSubject(t testing.TB, topic string) string {
	t.Helper()
	subject, err := streams.TopicSubject(topic)
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

func (g *gateway) publish(user, data string) uint64 {
	g.Helper()
	return g.send(user, streams.Notification{Data: []byte(data)})
}

func (g *gateway) send(user string, n streams.Notification) uint64 {
	g.Helper()
	receipt, err := g.pub.User(testContext(g, patience), user, n)
	if err != nil {
		g.Fatal(err)
	}
	return receipt.Seq
}

func (g *gateway) publishTopic(topic, data string) uint64 {
	g.Helper()
	receipt, err := g.pub.Topic(testContext(g, patience), topic, streams.Notification{Data: []byte(data)})
	if err != nil {
		g.Fatal(err)
	}
	return receipt.Seq
}

// fill publishes many messages at once, to user 0, user 1 … in turn.
func (g *gateway) fill(n, users, size int) {
	g.Helper()
	data := strings.Repeat("x", size)
	var all errgroup.Group
	all.SetLimit(32)
	for i := range n {
		all.Go(func() error {
			_, err := g.pub.User(g.Context(), fmt.Sprint(i%users), streams.Notification{Data: []byte(data)})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		g.Fatal(err)
	}
}

func (g *gateway) mark() streams.State {
	g.Helper()
	st, err := g.tail.Mark(testContext(g, patience))
	if err != nil {
		g.Fatal(err)
	}
	return st
}

// reader is closed when the test ends.
func (g *gateway) reader(after uint64, sources ...streams.Source) *streams.Reader {
	g.Helper()
	var r *streams.Reader
	streamstest.Eventually(g, patience, func() (err error) { // the tail may yet have to hear of a new epoch
		r, err = g.tail.Reader(g.mark(), after, sources)
		return err
	})
	g.Cleanup(r.Close)
	return r
}

func (g *gateway) userReader(after uint64, user string) *streams.Reader {
	g.Helper()
	return g.reader(after, streams.Source{Subject: userSubject(g, user)})
}

// reached waits for the tail to have read the stream up to what it holds now, and returns that.
func (g *gateway) reached() uint64 {
	g.Helper()
	st := g.mark()
	select {
	case <-g.tail.Reached(st.Epoch, st.Last):
	case <-time.After(patience):
		g.Fatalf("the tail does not reach %d", st.Last)
	}
	return st.Last
}

// read reads what there is.
func (g *gateway) read(r *streams.Reader) (entries []streams.Entry) {
	g.Helper()
	ctx := testContext(g, patience)
	const most = 7
	for {
		have := len(entries)
		var err error
		if entries, err = r.Read(ctx, entries, most); err != nil {
			g.Fatal(err)
		}
		if len(entries) < have+most {
			return entries
		}
	}
}

// wants reads all that the stream holds for the reader, and compares the data.
func (g *gateway) wants(r *streams.Reader, want ...string) {
	g.Helper()
	last := g.reached()
	if got := data(g.read(r)); !slices.Equal(got, want) {
		g.Errorf("read %q, want %q", got, want)
	}
	if r.Position() < last {
		g.Errorf("position %d of a reader that has read up to %d", r.Position(), last)
	}
}

// data is what encode put behind seq and subject.
func data(entries []streams.Entry) (all []string) {
	for _, e := range entries {
		all = append(all, strings.SplitN(string(e.Frame), " ", 3)[2])
	}
	return all
}

// stored is the stream of the subjects as NATS has it, for comparison, encoded.
func (g *gateway) stored(after uint64, subjects ...string) (frames []string) {
	g.Helper()
	ctx := testContext(g, 3*patience)
	stream, err := g.js.Stream(ctx, g.stream.Name())
	if err != nil {
		g.Fatal(err)
	}
	for seq := after + 1; ; {
		msg, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return frames
		}
		if err != nil {
			g.Fatal(err)
		}
		if len(subjects) == 0 || slices.Contains(subjects, msg.Subject) {
			frames = append(frames, fmt.Sprintf("%d %s %s", msg.Sequence, msg.Subject, msg.Data))
		}
		seq = msg.Sequence + 1
	}
}

func frames(entries []streams.Entry) (all []string) {
	for _, e := range entries {
		all = append(all, string(e.Frame))
	}
	return all
}

func (g *gateway) jetstream() jetstream.Stream {
	g.Helper()
	stream, err := g.js.Stream(testContext(g, patience), g.stream.Name())
	if err != nil {
		g.Fatal(err)
	}
	return stream
}
