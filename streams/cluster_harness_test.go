package streams_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// clusterPatience is how long a test waits for what a cluster delays: an election takes up to 9 s, and sometimes another.
const clusterPatience = 90 * time.Second

// replicated is the stream of the cluster tests. Nothing leaves it by its limits, so that whatever is missing is lost.
var replicated = streams.Config{Replicas: 3, MaxMsgsPerSubject: 1_000_000}

// load publishes to some users and reads them through one Tail while a test does its worst. Each user has a publisher of its own,
// which numbers what it publishes: what a reader gets must count from 0 without a hole.
type load struct {
	testing.TB
	g     *gateway
	epoch string
	users []string
	stop  context.CancelFunc
	all   sync.WaitGroup

	mu     sync.Mutex
	acked  map[string][]uint64 // seqs, by user
	colds  int                 // reads from the beginning that were checked
	failed []string
}

// watch is a reader that stays.
type watch struct {
	users []string
	done  chan error
	end   context.CancelFunc
	got   []streams.Entry // read after done
}

// newLoad begins to publish, over connections of their own to any of the servers.
func newLoad(g *gateway, c *streamstest.Cluster, users int) *load {
	g.Helper()
	return newLoadOver(g, users, func() *nats.Conn { return c.Connect(g) })
}

// newLoadOver has a connection made for each publisher.
func newLoadOver(g *gateway, users int, connect func() *nats.Conn) *load {
	g.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{TB: g, g: g, epoch: g.tail.Epoch(), stop: stop, acked: map[string][]uint64{}}
	g.Cleanup(func() { stop(); l.all.Wait() })
	for i := range users {
		user := fmt.Sprintf("%s-%d", strings.ReplaceAll(g.Name(), "/", "-"), i)
		l.users = append(l.users, user)
		pub, err := streams.NewPublisher(connect(), streams.Config{})
		if err != nil {
			g.Fatal(err)
		}
		l.all.Go(func() { l.publish(ctx, pub, user) })
	}
	return l
}

func (l *load) publish(ctx context.Context, pub *streams.Publisher, user string) {
	for n := 0; ctx.Err() == nil; n++ {
		receipt, err := pub.User(ctx, user, streams.Notification{Data: fmt.Append(nil, n)})
		if err != nil {
			if ctx.Err() == nil {
				l.fail("publisher of %s gives up: %v", user, err)
			}
			return
		}
		l.mu.Lock()
		l.acked[user] = append(l.acked[user], receipt.Seq)
		l.mu.Unlock()
		time.Sleep(time.Millisecond) // so that others have the machine too
	}
}

func (l *load) fail(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, fmt.Sprintf(format, v...))
}

// progress waits until every publisher has been acknowledged so many more.
func (l *load) progress(more int) {
	l.Helper()
	from := map[string]int{}
	for _, user := range l.users {
		from[user] = len(l.stored(user))
	}
	streamstest.Eventually(l, clusterPatience, func() error {
		l.report()
		for _, user := range l.users {
			if have := len(l.stored(user)); have < from[user]+more {
				return fmt.Errorf("%d of %d acknowledged to the publisher of %s", have-from[user], more, user)
			}
		}
		return nil
	})
}

// report ends the test where something went wrong already.
func (l *load) report() {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, failed := range l.failed {
		l.Error(failed)
	}
	if len(l.failed) > 0 {
		l.FailNow()
	}
}

// stored is what was acknowledged to the user's publisher.
func (l *load) stored(user string) []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked[user][:len(l.acked[user]):len(l.acked[user])]
}

func (l *load) sources(users []string) (sources []streams.Source) {
	for _, user := range users {
		sources = append(sources, streams.Source{Subject: userSubject(l, user)})
	}
	return sources
}

// watch reads from here on until finish: nothing was published to the users before.
func (l *load) watch(users ...string) *watch {
	l.Helper()
	ctx, end := context.WithCancel(context.Background())
	w := &watch{users: users, done: make(chan error, 1), end: end}
	r := l.g.reader(0, l.sources(users)...)
	l.Cleanup(end)
	l.all.Go(func() { w.done <- w.read(ctx, r) })
	return w
}

// read reads until ctx is done, and then what is left.
func (w *watch) read(ctx context.Context, r *streams.Reader) error {
	last, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	context.AfterFunc(ctx, func() { time.AfterFunc(clusterPatience, cancel) })
	for {
		over := ctx.Err() != nil
		entries, err := r.Read(last, nil, 50)
		w.got = append(w.got, entries...)
		switch {
		case errors.Is(err, streams.ErrReplaced), errors.Is(err, streams.ErrMissed), last.Err() != nil:
			return err
		case err != nil:
			time.Sleep(20 * time.Millisecond)
		case len(entries) < 50 && over:
			return nil
		case len(entries) < 50:
			select {
			case <-r.Wake():
			case <-ctx.Done():
			}
		}
	}
}

// readCold reads users from the beginning again and again, as connections that come do, until the load is stopped.
func (l *load) readCold(users ...string) {
	l.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stop := l.stop
	l.stop = func() { stop(); cancel() }
	l.Cleanup(cancel)
	for _, user := range users {
		l.all.Go(func() {
			for ctx.Err() == nil {
				switch err := l.readOnce(ctx, user); {
				case errors.Is(err, errWrong):
					l.fail("%v", err)
					return
				case err == nil:
					l.mu.Lock()
					l.colds++
					l.mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
}

var errWrong = errors.New("wrong")

// readOnce reads what the stream holds for a user, all that was acknowledged before. Errors other than errWrong are NATS being away.
func (l *load) readOnce(ctx context.Context, user string) error {
	want := l.stored(user)
	st, err := l.g.tail.Mark(ctx)
	if err != nil {
		return err
	}
	if n := len(want); n > 0 && st.Last < want[n-1] {
		return fmt.Errorf("%w: the mark says %d is the last, when %d was acknowledged", errWrong, st.Last, want[n-1])
	}
	r, err := l.g.tail.Reader(st, 0, l.sources([]string{user}))
	if err != nil {
		return fmt.Errorf("%w: reader: %w", errWrong, err)
	}
	defer r.Close()
	select {
	case <-l.g.tail.Reached(st.Epoch, st.Last):
	case <-ctx.Done():
		return ctx.Err()
	}
	var got []streams.Entry
	for {
		entries, err := r.Read(ctx, nil, 50)
		got = append(got, entries...)
		switch {
		case errors.Is(err, streams.ErrReplaced), errors.Is(err, streams.ErrMissed):
			return fmt.Errorf("%w: reader: %w", errWrong, err)
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			time.Sleep(20 * time.Millisecond)
		case len(entries) < 50 && r.Position() >= st.Last:
			return check(got, user, want)
		}
	}
}

// check compares what a reader got of one user with what was acknowledged to its publisher.
func check(got []streams.Entry, user string, want []uint64) error {
	last := uint64(0)
	for n, e := range got {
		if words := data([]streams.Entry{e}); words[0] != fmt.Sprint(n) {
			return fmt.Errorf("%w: %s: after %d (seq %d) comes %q, of %d that were acknowledged", errWrong, user, n-1, last, e.Frame, len(want))
		}
		if n < len(want) && e.Seq != want[n] || e.Seq <= last {
			return fmt.Errorf("%w: %s: %d has seq %d behind %d, acknowledged as %v", errWrong, user, n, e.Seq, last, want[n:min(n+1, len(want))])
		}
		last = e.Seq
	}
	if len(got) < len(want) {
		return fmt.Errorf("%w: %s: %d of %d read, up to seq %d; seq %d is missing", errWrong, user, len(got), len(want), last, want[len(got)])
	}
	return nil
}

// finish stops publishing, waits until the watches have all, and checks them and what the stream gives from its beginning.
func (l *load) finish(watches ...*watch) {
	l.Helper()
	l.progress(5) // all is well again
	l.stop()
	streamstest.Eventually(l, clusterPatience, func() error {
		st, err := l.g.tail.Mark(testContext(l, 2*time.Second))
		if err != nil {
			return err
		}
		select {
		case <-l.g.tail.Reached(st.Epoch, st.Last):
			return nil
		case <-time.After(time.Second):
			return fmt.Errorf("the tail does not reach %d", st.Last)
		}
	})
	if epoch := l.g.tail.Epoch(); epoch != l.epoch {
		l.Errorf("epoch %s, was %s: nothing happened that ends one", epoch, l.epoch)
	}
	for _, w := range watches {
		w.check(l)
	}
	for _, user := range l.users {
		streamstest.Eventually(l, clusterPatience, func() error {
			err := l.readOnce(testContext(l, 20*time.Second), user)
			if errors.Is(err, errWrong) {
				l.Fatal(err)
			}
			return err
		})
	}
	l.all.Wait()
	l.report()
	total := 0
	for _, user := range l.users {
		total += len(l.stored(user))
	}
	l.Logf("%d acknowledged, %d reads from the beginning", total, l.colds)
}

// check ends the watch and compares what it got with what was acknowledged.
func (w *watch) check(l *load) {
	l.Helper()
	w.end()
	if err := <-w.done; err != nil {
		l.Errorf("watch of %v: %v", w.users, err)
	}
	last := uint64(0)
	for _, e := range w.got {
		if e.Seq <= last {
			l.Errorf("watch of %v: seq %d behind %d", w.users, e.Seq, last)
		}
		last = e.Seq
	}
	for _, user := range w.users {
		of := " " + userSubject(l, user) + " "
		var got []streams.Entry
		for _, e := range w.got {
			if strings.Contains(string(e.Frame), of) {
				got = append(got, e)
			}
		}
		if err := check(got, user, l.stored(user)); err != nil {
			l.Errorf("watch of %v: %v", w.users, err)
		}
	}
}
