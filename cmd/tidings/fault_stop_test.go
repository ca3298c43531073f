//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// positions returns the stored position of each user.
func (w *town) positions() (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), longer/4) // a server that restarts answers some questions never
	defer cancel()
	stream, err := streams.Find(ctx, w.nc, streams.Config{})
	if err != nil {
		return nil, err
	}
	all, err := stream.Users().List(ctx)
	positions := map[string]uint64{}
	for _, c := range all {
		if c.Device == "" {
			positions[c.User] = c.Seq
		}
	}
	return positions, err
}

// committed waits until the positions of the users are what their clients acknowledged, or further where nothing of theirs lies
// between: a position is carried on with the stream.
func (w *town) committed(users []string, clients []*verify.Client) {
	w.t.Helper()
	streamstest.Eventually(w.t, longer, func() error {
		positions, err := w.positions()
		if err != nil {
			return err
		}
		wrong, example := 0, ""
		for i, user := range users {
			acked, _ := clients[i].Acknowledged()
			_, reached := clients[i].Position()
			if at := positions[user]; at < acked || at > reached {
				wrong++
				example = fmt.Sprintf("%s acknowledged %d, has everything to %d, and is at %d", user, acked, reached, at)
			}
		}
		if wrong > 0 {
			return fmt.Errorf("%d of %d positions are not what was acknowledged, such as: %s", wrong, len(users), example)
		}
		return nil
	})
}

// waitForCommits waits until the gateway has received the replies to n commits. The stream stores them earlier.
func (g *gateway) waitForCommits(n int) {
	g.t.Helper()
	streamstest.Eventually(g.t, longer, func() error {
		_, text, err := get(g.admin() + "/metrics")
		known := 0
		for _, sample := range regexp.MustCompile(`(?m)^tidings_commits_total{result="(?:moved|skipped)"} (\d+)$`).FindAllStringSubmatch(text, -1) {
			count, _ := strconv.Atoi(sample[1])
			known += count
		}
		if err == nil && known < n {
			err = fmt.Errorf("it knows of %d commits, not of %d", known, n)
		}
		return err
	})
}

// uncommitted has the clients acknowledge what is not due to be committed for long: the first of each is committed soon, the next
// only after --commit-interval. Without pings nothing else moves a position.
func (w *town) uncommitted(users []string, clients []*verify.Client) {
	w.t.Helper()
	w.each(users)
	w.complete()
	w.committed(users, clients)
	w.each(users)
	w.complete()
}

// Clients of a gateway that shuts down are told when to reconnect, find another gateway, and miss nothing. Acknowledgements are committed
// although they are not due yet.
func TestGatewayTerminatedUnderLoad(t *testing.T) {
	streamstest.BesideOthers(t)
	const drain = 15 * time.Second
	server := streamstest.RunProcess(t)
	flags := []string{"--nats", server.URL(), "--drain", drain.String(), "--commit-interval", "1h", "--ping", "10m"}
	first, second := runGateway(t, flags...), runGateway(t, flags...)
	w := newTown(t, server.URL())
	// The busy clients move to the second gateway. The quiet ones have acknowledged before, and do not reconnect.
	busy, quiet := many("busy", streamstest.Either(30, 300)), many("quiet", streamstest.Either(20, 200))
	onBusy, _ := w.clients(busy, verify.ClientConfig{URLs: []string{first.url(), second.url()}, Ack: verify.AckSometimes})
	onQuiet, leave := w.clients(quiet, verify.ClientConfig{URLs: []string{first.url()}})
	w.live(slices.Concat(onBusy, onQuiet)...)
	w.uncommitted(quiet, onQuiet)
	w.publish(2*time.Millisecond, busy)
	w.publish(3*time.Millisecond, busy)
	streamstest.Eventually(t, longer, func() error {
		if s := w.log.Stats(); s.Messages < 20*len(busy) {
			return fmt.Errorf("no load yet: %s", s)
		}
		return nil
	})
	w.flush(onQuiet...)

	before := w.log.Stats()
	if code := first.terminate(45 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	leave()
	w.toldToReconnect(before, len(quiet), drain)
	w.committed(quiet, onQuiet)
	w.live(onBusy...)
	w.passes()
}

// Positions that cannot be committed in time are an error, since clients will see repeats. With nothing to commit, a shutdown without NATS
// succeeds.
func TestGatewayTerminatedWhileNATSIsAway(t *testing.T) {
	streamstest.BesideOthers(t)
	server := streamstest.RunProcess(t)
	proxy := streamstest.RunProxy(t, server.URL())
	g := runGateway(t, "--nats", proxy.URL(), "--drain", "3s", "--commit-interval", "1h", "--ping", "10m")
	w := newTown(t, server.URL())
	users := many("quiet", 5)
	clients, leave := w.clients(users, verify.ClientConfig{URLs: []string{g.url()}, Forget: true})
	w.live(clients...)
	w.uncommitted(users, clients)
	w.flush(clients...)

	proxy.Stall()
	if code := g.terminate(longer); code != 1 || !g.logged("not all positions were committed, clients will see repeats") {
		t.Errorf("exit code %d, with positions that are not committed", code)
	}
	proxy.Restore()
	g.start()
	w.live(clients...)
	w.committed(users, clients)
	g.waitForCommits(len(users)) // without the reply it would send the commit again
	leave()
	proxy.Stall()
	if code := g.terminate(longer); code != 0 {
		t.Errorf("exit code %d, with nothing to commit", code)
	}
	proxy.Restore()
	g.start()
	w.passes()
}

// leftUncommitted is a gateway with these flags, its way to NATS, and clients who have acknowledged and gone; nothing of it is committed.
func leftUncommitted(t *testing.T, n int, args ...string) (g *gateway, proxy *streamstest.Proxy, w *town, committed func()) {
	t.Helper()
	streamstest.BesideOthers(t)
	server := streamstest.RunProcess(t)
	proxy = streamstest.RunProxy(t, server.URL())
	g = runGateway(t, append([]string{"--nats", proxy.URL(), "--commit-interval", "1h", "--ping", "10m"}, args...)...)
	w = newTown(t, server.URL())
	users := many("quiet", n)
	clients, leave := w.clients(users, verify.ClientConfig{URLs: []string{g.url()}})
	w.live(clients...)
	w.uncommitted(users, clients)
	w.flush(clients...)
	leave()
	return g, proxy, w, func() { w.committed(users, clients) }
}

// Nothing is committed before the Tail has read the stream over the current connection. It does that during a shutdown too.
func TestGatewayTerminatedAsNATSComesBack(t *testing.T) {
	g, proxy, w, committed := leftUncommitted(t, 5)
	proxy.Cut()
	proxy.Restore()
	if code := g.terminate(45 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	committed()
	w.passes()
}

// toldToReconnect checks how connections ended since before: with a close frame, and those that the gateway ended because it went,
// at least so many, after they were told when to reconnect, each at a time of its own.
func (w *town) toldToReconnect(before verify.Stats, least int, within time.Duration) {
	w.t.Helper()
	stats := w.log.Stats()
	goaways, times := 0, map[int64]bool{}
	for _, g := range stats.Goaways {
		if g.Code != wire.CloseDraining {
			continue
		}
		goaways++
		times[g.RetryAfter] = true
		if g.RetryAfter > within.Milliseconds() {
			w.t.Errorf("goaway %+v", g)
		}
	}
	// Goodbyes are given a second: one or two may be too late, where the gateway does not get the processor for so long.
	silent := stats.Closes[websocket.CloseAbnormalClosure] - before.Closes[websocket.CloseAbnormalClosure]
	if silent > goaways/20 || goaways < least || stats.Closes[wire.CloseDraining] < goaways-silent {
		w.t.Errorf("%d connections were told to reconnect, want %d or more, and %d ended without a close frame: %s", goaways, least, silent, stats)
	}
	if len(times) < goaways/2 {
		w.t.Errorf("%d clients were told %d different times: they reconnect all at once", goaways, len(times))
	}
}

// The embedded server takes 10 ms to stop for each durable: with 1,000 it is not waited for to the end. No position is lost by
// that.
func TestGatewayWithManyDurablesStopsInTime(t *testing.T) {
	streamstest.BesideOthers(t)
	port := strconv.Itoa(streamstest.FreePort(t))
	g := runGateway(t, "--data", t.TempDir(), "--nats-port", port, "--sync", "1s", "--commit-interval", "1h", "--ping", "10m")
	w := newTown(t, "nats://127.0.0.1:"+port)
	users, absent := many("quiet", streamstest.Either(30, 500)), many("absent", streamstest.Either(1270, 4500))
	clients, _ := w.clients(users, verify.ClientConfig{URLs: []string{g.url()}, Forget: true})
	w.live(clients...)
	w.uncommitted(users, clients)
	w.flush(clients...)
	w.addCursors(users[0], absent)

	if code := g.terminate(45 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	g.start()
	w.committed(users, clients)
	if positions, err := w.positions(); err != nil || len(positions) != len(users)+len(absent) {
		t.Errorf("%d positions (%v), want %d", len(positions), err, len(users)+len(absent))
	}
	w.live(clients...)
	w.passes()
}

// addCursors creates positions for users, as copies of one user's.
func (w *town) addCursors(like string, users []string) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), longer)
	defer cancel()
	sample, err := js.Consumer(ctx, streams.DefaultName, "user-"+like)
	if err != nil {
		w.t.Fatal(err)
	}
	var all errgroup.Group
	all.SetLimit(8)
	for _, user := range users {
		cfg := sample.CachedInfo().Config
		cfg.Name, cfg.Durable, cfg.FilterSubject = "user-"+user, "user-"+user, streams.UserPrefix+user
		cfg.Metadata = maps.Clone(cfg.Metadata)
		cfg.Metadata["user"] = user
		all.Go(func() error {
			_, err := js.CreateConsumer(ctx, streams.DefaultName, cfg)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		w.t.Fatal(err)
	}
}
