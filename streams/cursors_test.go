package streams_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// desk is a gateway with its cursors.
type desk struct {
	*gateway
	*streams.Cursors
}

func runCursors(t testing.TB, nc *nats.Conn, cfg streams.CursorsConfig) desk {
	t.Helper()
	if cfg.Interval == 0 {
		cfg.Interval = 50 * time.Millisecond
	}
	g := run(t, nc, streams.Config{}, streams.TailConfig{Poll: 100 * time.Millisecond})
	c := streams.NewCursors(g.tail, cfg)
	start(t, c.Run)
	return desk{g, c}
}

func (d desk) attach(id streams.CursorID) streams.CursorState {
	d.Helper()
	st, err := d.Attach(testContext(d, patience), id, d.mark(), math.MaxUint64)
	if err != nil {
		d.Fatal(err)
	}
	return st
}

func (d desk) consumer(id streams.CursorID) (*jetstream.ConsumerInfo, error) {
	d.Helper()
	name, err := streams.ConsumerName(id)
	if err != nil {
		return nil, err
	}
	consumer, err := d.js.Consumer(testContext(d, patience), d.stream.Name(), name)
	if err != nil {
		return nil, err
	}
	return consumer.CachedInfo(), nil
}

// shows waits until the NATS API shows the cursor where it should be.
func (d desk) shows(id streams.CursorID, seq, unread uint64) {
	d.Helper()
	streamstest.Eventually(d, patience, func() error {
		info, err := d.consumer(id)
		if err != nil {
			return err
		}
		if info.AckFloor.Stream != seq || info.NumPending != unread {
			return fmt.Errorf("%s is at %d with %d unread, want %d with %d", id, info.AckFloor.Stream, info.NumPending, seq, unread)
		}
		return nil
	})
}

var alice = streams.CursorID{User: "alice"}

func TestAttach(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{})
	d.publish("alice", "1")
	d.publish("bob", "2")
	d.publishTopic("news", "3")
	d.publish("alice", "4")

	st := d.attach(alice)
	if st.CursorID != alice || st.Seq != 0 || st.Unread != 2 || st.TopicsFrom != 4 || st.Epoch != d.tail.Epoch() || !st.New || st.Reset {
		t.Errorf("at first: %+v", st)
	}
	info, err := d.consumer(alice)
	if err != nil {
		t.Fatal(err)
	}
	cfg := info.Config
	if cfg.Durable != "user-alice" || cfg.FilterSubject != "notify.user.alice" || cfg.Description == "" || cfg.InactiveThreshold != 0 ||
		cfg.MemoryStorage || cfg.Metadata["user"] != "alice" || cfg.Metadata["topics_from"] != "4" || cfg.Metadata["epoch"] != st.Epoch {
		t.Errorf("consumer: %+v", cfg)
	}
	if _, ok := cfg.Metadata["device"]; ok {
		t.Error("a device of nobody")
	}

	d.Ack(alice, st.Epoch, 1)
	d.shows(alice, 1, 1)
	d.Ack(alice, st.Epoch, 4)
	d.shows(alice, 4, 0)
	d.publish("alice", "5")
	d.shows(alice, 4, 1)
	if again := d.attach(alice); again.Seq != 4 || again.Unread != 1 || again.TopicsFrom != 4 || again.New || again.Reset {
		t.Errorf("again: %+v", again)
	}
	// What lies back, or in another epoch, moves nothing.
	d.Ack(alice, st.Epoch, 2)
	d.Ack(alice, "another", 5)
	d.Ack(streams.CursorID{User: "bob"}, st.Epoch, 5) // is not attached
	d.Ack(alice, st.Epoch, 4)
	if err := d.Flush(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	d.shows(alice, 4, 1)
	if _, err := d.consumer(streams.CursorID{User: "bob"}); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("bob has a cursor: %v", err)
	}
}

// resets counts how often a consumer is moved.
func (d desk) resets(s *streamstest.Server) (count func() int) {
	d.Helper()
	nc := s.Connect(d)
	sub, err := nc.SubscribeSync("$JS.API.CONSUMER.RESET.>")
	if err != nil {
		d.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		d.Fatal(err)
	}
	return func() int {
		if err := errors.Join(d.nc.Flush(), nc.Flush()); err != nil {
			d.Fatal(err)
		}
		n, _, err := sub.Pending()
		if err != nil {
			d.Fatal(err)
		}
		return n
	}
}

func TestAcksAreCoalesced(t *testing.T) {
	s := streamstest.Run(t)
	var mu sync.Mutex
	var told []uint64
	d := runCursors(t, s.Connect(t), streams.CursorsConfig{Interval: time.Hour, Committed: func(st streams.CursorState) {
		mu.Lock()
		told = append(told, st.Seq)
		mu.Unlock()
	}})
	for range 1000 {
		d.publish("alice", "x")
	}
	st := d.attach(alice)
	count := d.resets(s)
	for seq := range uint64(500) {
		d.Ack(alice, st.Epoch, seq+1)
	}
	d.shows(alice, 500, 500) // soon, since it is the first
	for seq := range uint64(500) {
		d.Ack(alice, st.Epoch, 500+seq+1)
	}
	if n := count(); n < 1 || n > 2 { // the first 500 may take longer than "soon"
		t.Errorf("%d commits for the first 500", n)
	}
	d.shows(alice, 500, 500) // an hour has not passed
	d.Detach(alice, st.Epoch)
	d.shows(alice, 1000, 0)
	if n := count(); n > 3 {
		t.Errorf("%d commits for 1,000 acknowledgements", n)
	}
	streamstest.Eventually(t, patience, func() error { // the stream has it before anybody is told
		mu.Lock()
		defer mu.Unlock()
		if len(told) == 0 || told[len(told)-1] != 1000 || len(told) > 3 {
			return fmt.Errorf("told %v", told)
		}
		return nil
	})
}

func TestFlush(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	d := desk{g, streams.NewCursors(g.tail, streams.CursorsConfig{Rate: 1e6})} // never run
	const users = 100
	g.fill(2*users, users, 1)
	ids := make([]streams.CursorID, users)
	epoch := g.tail.Epoch()
	for i := range ids {
		ids[i] = streams.CursorID{User: fmt.Sprint(i)}
		d.attach(ids[i])
		d.Ack(ids[i], epoch, 150)
		if i%2 == 0 {
			d.Detach(ids[i], epoch)
		}
	}
	if err := d.Flush(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if info, err := d.consumer(id); err != nil || info.AckFloor.Stream != 150 {
			t.Errorf("%s: %v, %v", id, info, err)
		}
	}
	d.Ack(ids[1], epoch, 160)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := d.Flush(testContext(t, patience)); err != nil {
		t.Error(err)
	}
	if info, err := d.consumer(ids[1]); err != nil || info.AckFloor.Stream != 160 {
		t.Errorf("%v, %v", info, err)
	}
}

// An operator may remove a cursor. Under a connected user it comes again, where the user was; else it stays away.
func TestCursorDeleted(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{})
	ctx := testContext(t, patience)
	for range 5 {
		d.publish("alice", "x")
	}
	st := d.attach(alice)
	d.publishTopic("news", "6")
	d.publish("alice", "7")
	d.Ack(alice, st.Epoch, 2)
	d.shows(alice, 2, 4)
	remove := func() {
		t.Helper()
		if err := d.js.DeleteConsumer(ctx, d.stream.Name(), "user-alice"); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	d.Ack(alice, st.Epoch, 3)
	d.shows(alice, 3, 3)
	if again := d.attach(alice); again.TopicsFrom != 5 || again.Reset || again.New {
		t.Errorf("made again: %+v", again) // else the topic's 6, not yet acknowledged, would be lost
	}
	d.Detach(alice, st.Epoch)
	d.Detach(alice, st.Epoch)
	remove()
	d.Ack(alice, st.Epoch, 5) // too late
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := d.consumer(alice); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("forgotten, and yet there: %v", err)
	}

	// Forgotten before what was acknowledged is committed.
	st = d.attach(alice)
	if !st.New || st.Seq != 0 {
		t.Errorf("a new one: %+v", st)
	}
	d.Ack(alice, st.Epoch, 4)
	d.Detach(alice, st.Epoch)
	if _, _, err := d.stream.Users().Forget(ctx, "alice", false); err != nil {
		t.Fatal(err)
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := d.consumer(alice); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("forgotten, and yet there: %v", err)
	}
}

func TestDevices(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{MaxDevices: 3})
	for range 4 {
		d.publish("alice", "x")
	}
	device := func(name string) streams.CursorID { return streams.CursorID{User: "alice", Device: name} }
	// Without a position of the user's own it starts where the stream does.
	if st := d.attach(device("first")); st.Seq != 0 || st.Unread != 4 || st.TopicsFrom != 4 || !st.New {
		t.Errorf("the first: %+v", st)
	}
	own := d.attach(alice)
	d.publish("alice", "x")
	d.Ack(alice, own.Epoch, 3)
	d.shows(alice, 3, 2)
	if st := d.attach(device("phone")); st.CursorID != device("phone") || st.Seq != 3 || st.Unread != 2 || st.TopicsFrom != 4 || !st.New {
		t.Errorf("the phone: %+v", st)
	}
	info, err := d.consumer(device("phone"))
	if err != nil || info.Name != "user-alice@phone" || info.Config.Metadata["device"] != "phone" || info.Config.FilterSubject != "notify.user.alice" {
		t.Errorf("%+v, %v", info, err)
	}
	// Each has its own.
	d.Ack(device("phone"), own.Epoch, 5)
	d.shows(device("phone"), 5, 0)
	d.shows(device("first"), 0, 5)
	d.shows(alice, 3, 2)

	d.attach(device("third"))
	_, err = d.Attach(testContext(t, patience), device("fourth"), d.mark(), math.MaxUint64)
	if !errors.Is(err, streams.ErrTooManyDevices) || !strings.Contains(err.Error(), "--max-devices") {
		t.Errorf("the fourth: %v", err)
	}
	d.attach(device("phone")) // has its place
	d.attach(streams.CursorID{User: "bob", Device: "fourth"})
}

// A caught-up cursor moves with the stream, seldom enough.
func TestCarry(t *testing.T) {
	s := streamstest.Run(t)
	d := runCursors(t, s.Connect(t), streams.CursorsConfig{})
	st := d.attach(alice)
	count := d.resets(s)
	carry := func() int {
		t.Helper()
		d.Carry(alice, st.Epoch, d.reached())
		if err := d.Flush(testContext(t, patience)); err != nil {
			t.Fatal(err)
		}
		return count()
	}
	if n := carry(); n != 0 {
		t.Errorf("%d commits in an empty stream", n)
	}
	commits := 0
	for i := range 40 {
		d.fill(100, 10, 10)
		commits = carry()
		info, err := d.consumer(alice)
		if err != nil {
			t.Fatal(err)
		}
		if at, end := info.AckFloor.Stream, uint64(100*(i+1)); end-at > 1000 {
			t.Errorf("at %d of %d", at, end)
		}
	}
	if commits < 4 || commits > 8 {
		t.Errorf("%d commits in a stream of 4,000 that nobody has read", commits)
	}
	// The stream's beginning comes near.
	if err := d.jetstream().Purge(testContext(t, patience), jetstream.WithPurgeKeep(10)); err != nil {
		t.Fatal(err)
	}
	d.fill(20, 1, 1)
	streamstest.Eventually(t, patience, func() error {
		carry()
		if info, err := d.consumer(alice); err != nil || info.AckFloor.Stream < 4010 {
			return fmt.Errorf("%+v, %w", info, err)
		}
		return nil
	})
	d.Carry(alice, "another", 1<<40)
	d.Carry(streams.CursorID{User: "bob"}, st.Epoch, 1<<40)
	if err := d.Flush(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	if info, err := d.consumer(alice); err != nil || info.AckFloor.Stream > 4020 {
		t.Errorf("%+v, %v", info, err)
	}
}

// Of a stream that is made anew, a cursor is new too, and says so once.
func TestCursorsOfAnotherEpoch(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{Interval: time.Hour})
	other := runCursors(t, d.nc, streams.CursorsConfig{})
	for range 5 {
		d.publish("alice", "x")
	}
	st := d.attach(alice)
	d.Ack(alice, st.Epoch, 3)
	d.shows(alice, 3, 2)
	old := d.mark()
	d.Ack(alice, st.Epoch, 4) // for in an hour

	if _, err := d.stream.NewEpoch(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		if mark := d.mark(); mark.Epoch == old.Epoch || mark.Epoch != d.tail.Epoch() || mark.Epoch != other.tail.Epoch() {
			return errors.New("no new epoch yet")
		}
		return nil
	})
	// What was acknowledged before means nothing now.
	d.Ack(alice, old.Epoch, 5)
	d.Detach(alice, old.Epoch)
	if err := d.Flush(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	d.shows(alice, 3, 2)

	now := d.attach(alice)
	if !now.Reset || now.Seq != 0 || now.Unread != 5 || now.TopicsFrom != 0 || now.Epoch == old.Epoch {
		t.Errorf("in the new epoch: %+v", now)
	}
	if again := other.attach(alice); !again.Reset || again.Epoch != now.Epoch || again.Seq != 0 {
		t.Errorf("at the other gateway, before anybody acknowledged: %+v", again)
	}
	d.Ack(alice, now.Epoch, 2)
	d.shows(alice, 2, 3)
	if later := d.attach(alice); later.Reset {
		t.Errorf("acknowledged since: %+v", later)
	}
	// Who comes with a mark of old does not undo that.
	if _, err := other.Attach(testContext(t, patience), alice, old, math.MaxUint64); !errors.Is(err, streams.ErrReplaced) {
		t.Errorf("an old mark: %v", err)
	}
	d.shows(alice, 2, 3)

	// The stream itself is another one.
	if err := d.js.DeleteStream(testContext(t, patience), d.stream.Name()); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		mark, err := d.tail.Mark(t.Context())
		if err != nil || mark.Epoch == now.Epoch || mark.Epoch != d.tail.Epoch() {
			return fmt.Errorf("no new stream yet: %w", err)
		}
		return nil
	})
	if st := d.attach(alice); st.Reset || !st.New || st.Seq != 0 {
		t.Errorf("in the new stream: %+v", st)
	}
}

func TestForeignConsumer(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{})
	if _, err := d.jetstream().CreateConsumer(testContext(t, patience), jetstream.ConsumerConfig{Durable: "user-alice"}); err != nil {
		t.Fatal(err)
	}
	_, err := d.Attach(testContext(t, patience), alice, d.mark(), math.MaxUint64)
	if err == nil || !strings.Contains(err.Error(), "nats consumer rm NOTIFICATIONS user-alice") {
		t.Error(err)
	}
	if all, err := d.stream.Users().List(testContext(t, patience)); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Two gateways serve one user; the position is never lost, and never goes back for good.
func TestTwoGateways(t *testing.T) {
	s := streamstest.Run(t)
	a, b := runCursors(t, s.Connect(t), streams.CursorsConfig{}), runCursors(t, s.Connect(t), streams.CursorsConfig{})
	const last = 300
	for range last {
		a.publish("alice", "x")
	}
	b.reached()
	st := a.attach(alice)
	if other := b.attach(alice); other.Epoch != st.Epoch || other.New {
		t.Errorf("%+v and %+v", st, other)
	}
	var both errgroup.Group
	for i, d := range []desk{a, b} {
		both.Go(func() error {
			for seq := uint64(1 + i); seq <= last; seq += 2 {
				d.Ack(alice, st.Epoch, seq)
				if seq%20 < 2 {
					if err := d.Flush(t.Context()); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	a.Ack(alice, st.Epoch, last)
	for _, d := range []desk{a, b} {
		d.Detach(alice, st.Epoch)
		if err := d.Flush(testContext(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	// At the same instant the lower may win, but then by one commit.
	streamstest.Eventually(t, patience, func() error {
		if info, err := a.consumer(alice); err != nil || info.AckFloor.Stream < last-20 {
			return fmt.Errorf("%+v, %w", info, err)
		}
		return nil
	})
}

// Within one gateway, a position never goes back, whoever commits it.
func TestCommitsDoNotOvertake(t *testing.T) {
	s := streamstest.Run(t)
	d := runCursors(t, s.Connect(t), streams.CursorsConfig{Interval: time.Millisecond})
	const last = 400
	d.fill(last, 1, 1)
	id := streams.CursorID{User: "0"}
	st := d.attach(id)
	stop := make(chan struct{})
	var others errgroup.Group
	for range 4 {
		others.Go(func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				now, err := d.Attach(t.Context(), id, d.mark(), math.MaxUint64)
				if err != nil {
					return err
				}
				d.Detach(id, now.Epoch)
			}
		})
	}
	highest := uint64(0)
	for seq := range uint64(last) {
		d.Ack(id, st.Epoch, seq+1)
		info, err := d.consumer(id)
		if err != nil {
			t.Fatal(err)
		}
		if info.AckFloor.Stream < highest {
			t.Fatalf("from %d back to %d", highest, info.AckFloor.Stream)
		}
		highest = info.AckFloor.Stream
	}
	close(stop)
	if err := others.Wait(); err != nil {
		t.Error(err)
	}
}

// While NATS is away, acknowledgements wait.
func TestCommitWithoutNATS(t *testing.T) {
	s := streamstest.Run(t)
	proxy := streamstest.RunProxy(t, s.URL())
	d := runCursors(t, streamstest.Connect(t, proxy.URL()), streams.CursorsConfig{})
	direct := desk{gateway: open(t, s.Connect(t), streams.Config{})}
	for range 5 {
		d.publish("alice", "x")
	}
	st := d.attach(alice)
	proxy.Cut()
	d.Ack(alice, st.Epoch, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := d.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush without NATS: %v", err)
	}
	d.Detach(alice, st.Epoch)
	direct.shows(alice, 0, 5)
	proxy.Restore()
	direct.shows(alice, 3, 2)
}

// A commit whose answer is lost with the connection holds nobody up, once that is back.
func TestACommitInFlightWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	for name, subject := range map[string]string{"while it is read": "$JS.API.CONSUMER.INFO.>", "while it is moved": "$JS.API.CONSUMER.RESET.>"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := streamstest.Run(t)
			proxy := streamstest.RunProxy(t, s.URL())
			d := runCursors(t, streamstest.Connect(t, proxy.URL()), streams.CursorsConfig{})
			direct := desk{gateway: open(t, s.Connect(t), streams.Config{})}
			for range 5 {
				direct.publish("alice", "x")
				direct.publish("bob", "x")
			}
			d.reached()
			bob := streams.CursorID{User: "bob"}
			st := d.attach(alice)
			d.attach(bob)
			requests, err := direct.nc.SubscribeSync(subject)
			if err := errors.Join(err, direct.nc.Flush()); err != nil {
				t.Fatal(err)
			}
			proxy.Latency(300 * time.Millisecond) // the answer is on its way for so long
			d.Ack(alice, st.Epoch, 9)
			if _, err := requests.NextMsg(patience); err != nil {
				t.Fatal(err)
			}
			proxy.Cut()
			d.Ack(bob, st.Epoch, 10)
			proxy.Restore()
			began := time.Now()
			direct.shows(bob, 10, 0)
			direct.shows(alice, 9, 0)
			if took := time.Since(began); took > 4500*time.Millisecond {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// What was acknowledged is committed before the next connection is told where it stands.
func TestAttachCommitsFirst(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{Interval: time.Hour})
	for range 5 {
		d.publish("alice", "x")
	}
	st := d.attach(alice)
	d.Ack(alice, st.Epoch, 1)
	d.shows(alice, 1, 4)
	d.Ack(alice, st.Epoch, 3)
	if again := d.attach(alice); again.Seq != 3 || again.Unread != 2 {
		t.Errorf("%+v", again)
	}
}

// The server moves a cursor whose subject is purged; nothing that comes later is skipped.
func TestCursorOfAPurgedSubject(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{})
	for range 5 {
		d.publish("alice", "x")
	}
	st := d.attach(alice)
	d.Ack(alice, st.Epoch, 2)
	d.shows(alice, 2, 3)
	if err := d.jetstream().Purge(testContext(t, patience), jetstream.WithPurgeSubject("notify.user.alice")); err != nil {
		t.Fatal(err)
	}
	seq := d.publish("alice", "later")
	again := d.attach(alice)
	if again.Unread != 1 || again.Seq >= seq {
		t.Errorf("%+v, want one unread at %d", again, seq)
	}
	d.Ack(alice, st.Epoch, seq)
	d.shows(alice, seq, 0)
}
