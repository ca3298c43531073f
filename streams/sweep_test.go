package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// crowd publishes to users and a topic in turn, far more than the Tail of the gateway that it returns holds.
func crowd(t testing.TB, users, each int) *gateway {
	t.Helper()
	nc := streamstest.RunProcess(t).Connect(t)
	g := open(t, nc, streams.Config{MaxMsgsPerSubject: -1})
	var publishers errgroup.Group
	publishers.SetLimit(64)
	for n := range each {
		for u := range users {
			publishers.Go(func() error {
				_, err := g.pub.User(t.Context(), fmt.Sprint(u), streams.Notification{Data: fmt.Append(nil, n)})
				return err
			})
		}
	}
	if err := publishers.Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		g.publishTopic("all", fmt.Sprint("topic ", n))
	}
	for n := range 20 {
		g.publish("somebody else", fmt.Sprint(n))
	}
	return run(t, nc, streams.Config{}, streams.TailConfig{MaxBytes: 1000})
}

// readAll lets a reader for each user read to the end at the same time, some with a topic, some from the middle.
func (g *gateway) readAll(ctx context.Context, users, most int, read func(user int, after uint64, sources []streams.Source, got []streams.Entry)) error {
	mark := g.mark()
	var all errgroup.Group
	for u := range users {
		sources := []streams.Source{{Subject: userSubject(g, fmt.Sprint(u))}}
		if u%3 == 0 {
			sources = append(sources, streams.Source{Subject: topicSubject(g, "all"), After: uint64(u%2) * mark.Last})
		}
		after := uint64(u%4) * mark.Last / 5
		r, err := g.tail.Reader(mark, after, sources)
		if err != nil {
			return err
		}
		all.Go(func() error {
			defer r.Close()
			var got []streams.Entry
			for {
				batch, err := r.Read(ctx, nil, most)
				if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // the server is slow: a session tries again
					got = append(got, batch...)
					continue
				}
				if err != nil {
					return fmt.Errorf("user %d at %d: %w", u, r.Position(), err)
				}
				got = append(got, batch...)
				if len(batch) < most {
					break
				}
			}
			if r.Position() < mark.Last {
				return fmt.Errorf("user %d has read up to %d of %d", u, r.Position(), mark.Last)
			}
			read(u, after, sources, got)
			return nil
		})
	}
	return all.Wait()
}

// of picks those frames that a reader of the sources gets.
func of(all []string, after uint64, sources []streams.Source) (some []string) {
	for _, frame := range all {
		var seq uint64
		var subject string
		fmt.Sscan(frame, &seq, &subject)
		if slices.ContainsFunc(sources, func(s streams.Source) bool { return s.Subject == subject && seq > max(after, s.After) }) {
			some = append(some, frame)
		}
	}
	return some
}

// Many who lie behind the Tail at once are served by reading the stream about once, each with exactly its own.
func TestManyLaggingReadersShareOneSweep(t *testing.T) {
	t.Parallel()
	const users, each = 240, 4
	g := crowd(t, users, each)
	all := g.stored(0)
	var requests atomic.Int64
	tap, err := g.nc.Subscribe("$JS.API.DIRECT.GET."+g.stream.Name(), func(*nats.Msg) { requests.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tap.Unsubscribe() }()
	err = g.readAll(testContext(t, 3*patience), users, 4, func(user int, after uint64, sources []streams.Source, got []streams.Entry) {
		if have, want := frames(got), of(all, after, sources); !slices.Equal(have, want) {
			t.Errorf("user %d read %q, want %q", user, have, want)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n > users {
		t.Errorf("%d requests for %d readers: nobody shared", n, users)
	}
	if n := g.swept.Load(); n < users {
		t.Errorf("%d messages were swept", n)
	}
}

// One that gives up in the midst of a sweep, or of waiting for it, harms nobody, and goes on where it was.
func TestReadersThatLeaveASweep(t *testing.T) {
	t.Parallel()
	const users, each = 100, 5
	g := crowd(t, users, each)
	mark, stored := g.mark(), g.stored(0)
	var all errgroup.Group
	for u := range users {
		subject := userSubject(t, fmt.Sprint(u))
		sources := []streams.Source{{Subject: subject}}
		r, err := g.tail.Reader(mark, 0, sources)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() error {
			defer r.Close()
			var got []streams.Entry
			patient := time.Now().Add(patience)
			for late := time.Duration(u%7) * 200 * time.Microsecond; ; late *= 2 {
				r.SetDeadline(time.Now().Add(late + time.Microsecond))
				batch, err := r.Read(t.Context(), nil, 100)
				got = append(got, batch...)
				if err == nil {
					break
				}
				if !errors.Is(err, context.DeadlineExceeded) || time.Now().After(patient) {
					return fmt.Errorf("user %d: %w", u, err)
				}
				late += time.Millisecond
			}
			if have, want := frames(got), of(stored, 0, sources); !slices.Equal(have, want) {
				return fmt.Errorf("user %d read %q, want %q", u, have, want)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// How long a crowd takes that comes back at once, for each of them.
func BenchmarkLaggingCrowd(b *testing.B) {
	const users, each = 2000, 5
	g := crowd(b, users, each)
	for b.Loop() {
		if err := g.readAll(b.Context(), users, 64, func(int, uint64, []streams.Source, []streams.Entry) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*users), "ns/reader")
}
