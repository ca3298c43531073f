package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// behindASlowLink runs a gateway that holds next to nothing in memory, and reaches its server through the proxy.
func behindASlowLink(t *testing.T, fill func(g *gateway)) (*gateway, *streamstest.Proxy) {
	t.Helper()
	s := streamstest.Run(t)
	fill(open(t, s.Connect(t), streams.Config{MaxMsgsPerSubject: -1}))
	proxy := streamstest.RunProxy(t, s.URL())
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	return run(t, streamstest.Connect(t, proxy.URL(), quiet), streams.Config{}, streams.TailConfig{MaxBytes: 1000}), proxy
}

// interrupted reads to the end of the stream as it is, by reads that end after a while.
func interrupted(r *streams.Reader, each, within time.Duration, end uint64) (got []streams.Entry, err error) {
	for late := time.Now().Add(within); r.Position() < end; {
		r.SetDeadline(time.Now().Add(each))
		if got, err = r.Read(context.Background(), got, 20); errors.Is(err, streams.ErrMissed) || errors.Is(err, streams.ErrReplaced) {
			return got, err
		}
		if time.Now().After(late) {
			return got, fmt.Errorf("at %d of %d after %s and %d messages: %w", r.Position(), end, within, len(got), err)
		}
	}
	return got, nil
}

// A replay goes on over a link on which a batch takes longer than its reader has until the next ping, and longer than the link lasts.
func TestColdReadOverASlowLink(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		messages, size int
		rate           int // bytes per second
		each           time.Duration
		cuts           time.Duration
	}{
		"with short pings":         {60, 10_000, 300_000, 100 * time.Millisecond, 0},
		"that breaks":              {60, 10_000, 300_000, time.Hour, 500 * time.Millisecond},
		"with one large message":   {2, 256 << 10, streamstest.Either(100_000, 30_000), 250 * time.Millisecond, 0},
		"that is slow for minutes": {streamstest.Either(20, 200), 10_000, streamstest.Either(100_000, 30_000), 300 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, proxy := behindASlowLink(t, func(g *gateway) {
				g.fill(c.messages, 1, c.size)
				g.publish("somebody else", "the end")
			})
			end, want := g.reached(), g.stored(0, userSubject(t, "0"))
			r := g.userReader(0, "0")
			proxy.Slow(c.rate)
			stop := make(chan struct{})
			var breaks sync.WaitGroup
			breaks.Go(func() {
				for c.cuts > 0 {
					select {
					case <-stop:
						return
					case <-time.After(c.cuts):
						proxy.Cut()
						proxy.Restore()
						proxy.Slow(c.rate)
					}
				}
			})
			took := time.Duration(c.messages*c.size/c.rate) * time.Second
			got, err := interrupted(r, c.each, patience+5*took, end)
			close(stop)
			breaks.Wait()
			proxy.Restore()
			if err != nil {
				t.Fatal(err)
			}
			if have := frames(got); !slices.Equal(have, want) {
				t.Errorf("read %d messages, the stream has %d", len(have), len(want))
			}
		})
	}
}

// Those who read in one sweep have what it found also where their deadlines came before its end.
func TestSweepOverASlowLink(t *testing.T) {
	t.Parallel()
	const users = 60
	g, proxy := behindASlowLink(t, func(g *gateway) {
		g.fill(3*users, users, 3000)
		g.publish("somebody else", "the end")
	})
	end, all := g.reached(), g.stored(0)
	var each []*streams.Reader
	for u := range users {
		each = append(each, g.userReader(0, fmt.Sprint(u)))
	}
	proxy.Slow(200_000)
	var readers errgroup.Group
	for u, r := range each {
		sources := []streams.Source{{Subject: userSubject(t, fmt.Sprint(u))}}
		readers.Go(func() error {
			got, err := interrupted(r, 100*time.Millisecond, 3*patience, end)
			if have, want := frames(got), of(all, 0, sources); err == nil && !slices.Equal(have, want) {
				err = fmt.Errorf("read %d messages, the stream has %d", len(have), len(want))
			}
			return err
		})
	}
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
	proxy.Restore()
}

// A server that is there, but does not answer, is given up.
func TestASilentServerIsNoticed(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t, streamstest.WithConfig(`
		authorization { users = [
			{user: all, password: all}
			{user: mute, password: mute, permissions: {publish: {deny: "$JS.API.DIRECT.GET.>"}}}
		] }`))
	open(t, s.Connect(t, nats.UserInfo("all", "all")), streams.Config{}).fill(20, 1, 1000)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	g := run(t, s.Connect(t, nats.UserInfo("mute", "mute"), quiet), streams.Config{}, streams.TailConfig{MaxBytes: 500})
	_, err := g.userReader(0, "0").Read(testContext(t, patience), nil, 10)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer from JetStream") {
		t.Errorf("nobody answers, but %v", err)
	}
}
