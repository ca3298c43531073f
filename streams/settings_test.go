package streams_test

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

const pollFast = 20 * time.Millisecond

// edit changes the stream's settings, as nats stream edit does.
func (g *gateway) edit(change func(*jetstream.StreamConfig)) {
	g.Helper()
	cfg := g.jetstream().CachedInfo().Config
	change(&cfg)
	if _, err := g.js.UpdateStream(testContext(g, patience), cfg); err != nil {
		g.Fatal(err)
	}
}

// unreliable waits until the tail says that it cannot be relied on, for this reason.
func (g *gateway) unreliable(reason string) {
	g.Helper()
	streamstest.Eventually(g, patience, func() error {
		if err := g.tail.Check(); !errors.Is(err, streams.ErrStreamMismatch) || !strings.Contains(err.Error(), reason) {
			return fmt.Errorf("%v, want %q", err, reason)
		}
		return nil
	})
}

// badSettings are those that lose, hide or delay notifications, and that can be put back.
func badSettings() map[string]func(*jetstream.StreamConfig) {
	return map[string]func(*jetstream.StreamConfig){
		"no direct access":    func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"no topics":           func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] },
		"one topic":           func(c *jetstream.StreamConfig) { c.Subjects = []string{"notify.user.*", "notify.topic.news"} },
		"interest retention":  func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"discard new":         func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew },
		"discard new of each": func(c *jetstream.StreamConfig) { c.Discard, c.DiscardNewPerSubject = jetstream.DiscardNew, true },
		"no acknowledgements": func(c *jetstream.StreamConfig) { c.NoAck = true },
		"rollups":             func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"delete markers":      func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Minute },
		"atomic batches":      func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true },
		"fast batches":        func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true },
		"positions that end":  func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Minute },
	}
}

func TestSettingsArePutBackWhileAGatewayRuns(t *testing.T) {
	t.Parallel()
	for name, change := range badSettings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: pollFast})
			g.edit(change)
			streamstest.Eventually(t, patience, func() error {
				now := g.jetstream().CachedInfo().Config
				delete(now.Metadata, "tidings_generation")
				if have, want := fmt.Sprint(settings(t, now)), fmt.Sprint(settings(t, contract())); have != want {
					return fmt.Errorf("%s, want %s", have, want)
				}
				return g.tail.Check()
			})
		})
	}
}

func TestSettingsArePutBackAtTheStart(t *testing.T) {
	t.Parallel()
	for name, change := range badSettings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc := streamstest.Run(t).Connect(t)
			g := open(t, nc, streams.Config{})
			g.edit(change)
			got := open(t, nc, streams.Config{}).jetstream().CachedInfo().Config
			delete(got.Metadata, "tidings_generation")
			wantSettings(t, got, contract())
		})
	}
}

// Replay of what is older than memory needs direct access.
func TestReplayGoesOnWhenDirectAccessIsSwitchedOff(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: pollFast, MaxBytes: 1})
	g.publish("alice", "1")
	g.publish("alice", "2")
	g.reached()
	g.edit(func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	r := g.userReader(0, "alice")
	streamstest.Eventually(t, patience, func() error {
		entries, err := r.Read(testContext(t, patience), nil, 10)
		if err == nil && len(entries) != 2 {
			t.Fatalf("read %q", data(entries))
		}
		return err
	})
}

// NATS deletes with interest retention what no consumer waits for: topics, and users without a position. A new epoch has clients
// hear of it.
func TestInterestRetentionEndsTheEpoch(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: pollFast})
	g.publishTopic("all", "1")
	epoch := g.mark().Epoch
	g.edit(func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy })
	streamstest.Eventually(t, patience, func() error {
		if st := g.mark(); st.Epoch == epoch || g.tail.Epoch() != st.Epoch {
			return fmt.Errorf("epoch %s, and %s in the tail", st.Epoch, g.tail.Epoch())
		}
		return nil
	})
}

func TestSettingsThatCannotBePutBackAreNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*jetstream.StreamConfig)
		say    string
	}{
		"sealed":         {func(c *jetstream.StreamConfig) { c.Sealed = true }, "it is sealed"},
		"schedules":      {func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = true }, "message schedules"},
		"sources":        {func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}} }, "sources another stream"},
		"full":           {func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, 1 }, "would delete the excess"},
		"other subjects": {func(c *jetstream.StreamConfig) { c.Subjects = []string{"notify.*.alice"} }, `"notify.*.alice" overlaps (replace that: nats stream edit`},
		"another name": {func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "notify.user.*", Destination: "x.{{wildcard(1)}}"}
		}, "subject transform"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: pollFast})
			g.publish("alice", "1")
			g.publish("alice", "2")
			g.edit(test.change)
			g.unreliable(test.say)
			if _, err := streams.Open(testContext(t, patience), g.nc, streams.Config{}); !errors.Is(err, streams.ErrStreamMismatch) || !strings.Contains(err.Error(), test.say) {
				t.Errorf("open: %v, want %q", err, test.say)
			}
			if st, err := g.stream.State(testContext(t, patience)); err != nil || st.Msgs != 2 {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

// runBehindProxy runs a gateway that reaches NATS through a proxy, and one that is opened without it.
func runBehindProxy(t *testing.T) (g, direct *gateway, proxy *streamstest.Proxy) {
	t.Helper()
	server := streamstest.Run(t)
	proxy = streamstest.RunProxy(t, server.URL())
	direct = open(t, server.Connect(t), streams.Config{})
	g = run(t, streamstest.Connect(t, proxy.URL()), streams.Config{}, streams.TailConfig{Poll: pollFast})
	return g, direct, proxy
}

// What NATS refuses is named: another stream has taken the subjects meanwhile.
func TestSettingsThatNATSRefusesAreNamed(t *testing.T) {
	t.Parallel()
	g, direct, proxy := runBehindProxy(t)
	proxy.Stall()
	direct.edit(func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] })
	if _, err := direct.js.CreateStream(testContext(t, patience), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"notify.topic.all"}}); err != nil {
		t.Fatal(err)
	}
	proxy.Restore()
	g.unreliable("subjects [notify.user.*] → [notify.user.*,notify.topic.*]: update stream NOTIFICATIONS: another stream has its subjects (")
	if err := direct.js.DeleteStream(testContext(t, patience), "OTHER"); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, g.tail.Check)
}

// A stream that was deleted cannot be created again, since another has its subjects.
func TestADeletedStreamWhoseSubjectsAreTaken(t *testing.T) {
	t.Parallel()
	g, direct, proxy := runBehindProxy(t)
	proxy.Stall()
	if err := direct.js.DeleteStream(testContext(t, patience), g.stream.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := direct.js.CreateStream(testContext(t, patience), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"notify.>"}}); err != nil {
		t.Fatal(err)
	}
	proxy.Restore()
	streamstest.Eventually(t, patience, func() error {
		if err := g.tail.Check(); err == nil || !strings.Contains(err.Error(), "another stream has its subjects (name that with --stream") {
			return fmt.Errorf("%w, want the reason", err)
		}
		return nil
	})
}

// look has the tail look at the stream now, however seldom it polls.
func (g *gateway) look() { g.tail.Reached(g.tail.Epoch(), math.MaxUint64) }

// The limit of one attempt in 30 polls is of each setting. Here that is half an hour.
func TestASettingIsPutBackAtOnceAfterAnother(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: time.Minute})
	for _, name := range []string{"no direct access", "discard new"} {
		g.edit(badSettings()[name])
		streamstest.Eventually(t, patience, func() error {
			g.look()
			now := g.jetstream().CachedInfo().Config
			if !now.AllowDirect || now.Discard != jetstream.DiscardOld {
				return fmt.Errorf("%s: not put back: %w", name, g.tail.Check())
			}
			return g.tail.Check()
		})
	}
	g.edit(badSettings()["discard new"])
	g.look()
	g.unreliable("changed again right after it was put back: discard new → old (find out what changes it); it is put back in 1")
	if err := g.tail.Check(); !regexp.MustCompile(`in 1[678]\d\d s$`).MatchString(err.Error()) {
		t.Errorf("%v, want half an hour", err)
	}
}

// A failed attempt counts no longer once somebody else has put the settings right.
func TestSettingsThatSomebodyElsePutRight(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: time.Minute})
	noTopics := badSettings()["no topics"]
	right := func() error { g.look(); return g.tail.Check() }
	g.edit(noTopics)
	if _, err := g.js.CreateStream(testContext(t, patience), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"notify.topic.all"}}); err != nil {
		t.Fatal(err)
	}
	g.look()
	g.unreliable("; the gateway tries again in 1")
	if err := g.js.DeleteStream(testContext(t, patience), "OTHER"); err != nil {
		t.Fatal(err)
	}
	g.edit(func(c *jetstream.StreamConfig) { c.Subjects = contract().Subjects })
	streamstest.Eventually(t, patience, right)
	g.edit(noTopics)
	streamstest.Eventually(t, patience, func() error {
		if err := right(); err != nil || len(g.jetstream().CachedInfo().Config.Subjects) < 2 {
			return fmt.Errorf("not put back: %w", err)
		}
		return nil
	})
}

// What is older than memory cannot be read without direct access, which is not to be taken for a missing JetStream.
func TestReadsWithoutDirectAccessNameIt(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: time.Hour, MaxBytes: 1})
	g.publish("alice", "1")
	g.publish("alice", "2")
	g.reached()
	named := func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "direct access of the stream is off; the gateway puts it back") &&
			!errors.Is(err, streams.ErrNoJetStream) && streams.Passing(err)
	}
	streamstest.Eventually(t, patience, func() error {
		g.edit(func(c *jetstream.StreamConfig) { c.AllowDirect = false }) // again if a look has put it back
		_, err := g.userReader(0, "alice").Read(testContext(t, patience), nil, 10)
		_, list := g.stream.Newest(testContext(t, patience), userSubject(t, "alice"), 0, 10, 1000)
		if !named(err) || !named(list) {
			return fmt.Errorf("read: %w; list: %w", err, list)
		}
		return nil
	})
}

// Somebody may insist on other settings: each is put back once in 30 polls, a minute, and logged once.
func TestSettingsAreNotFoughtFor(t *testing.T) {
	t.Parallel()
	const poll = 2 * pollFast // more than a second from one attempt to the next, so that the seconds left change
	var log syncBuffer
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: poll, Logger: zerolog.New(&log)})
	on := func() bool { return g.jetstream().CachedInfo().Config.AllowDirect }
	began, changed := time.Now(), 0
	streamstest.Eventually(t, patience, func() error {
		if on() {
			g.edit(func(c *jetstream.StreamConfig) { c.AllowDirect = false })
			changed++
		}
		if err := g.tail.Check(); err == nil || !strings.Contains(err.Error(), "allow_direct false → true (find out what changes it); it is put back in ") {
			return fmt.Errorf("%w, want what is changed", err)
		}
		return nil
	})
	if most := 2 + int(time.Since(began)/(30*poll)); changed > most { // the first change, and one after each time it was put back
		t.Errorf("it was put back %d times in %s", changed-1, time.Since(began))
	}
	streamstest.Eventually(t, patience, func() error {
		if !on() {
			return errors.New("it is off")
		}
		return nil
	})
	if lines := strings.Count(log.String(), "changed again"); lines > changed-1 { // the first change is put back
		t.Errorf("%d lines for %d changes:\n%s", lines, changed, log.String())
	}
	// Limits are an operator's, and of each gateway's flags.
	g.edit(func(c *jetstream.StreamConfig) { c.MaxAge, c.MaxMsgsPerSubject, c.MaxConsumers = time.Hour, 7, 50 })
	open(t, g.nc, streams.Config{})
	streamstest.Eventually(t, patience, g.tail.Check)
	if c := g.jetstream().CachedInfo().Config; c.MaxAge != time.Hour || c.MaxMsgsPerSubject != 7 {
		t.Errorf("limits: %s, %d", c.MaxAge, c.MaxMsgsPerSubject)
	}
}

// With rollups allowed, one publish of anybody who may publish empties the stream.
func TestNoPublisherCanEmptyTheStream(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: time.Hour})
	wipe := func() {
		msg := nats.NewMsg(userSubject(t, "mallory"))
		msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupAll)
		if _, err := g.nc.RequestMsgWithContext(testContext(t, patience), msg); err != nil {
			t.Fatal(err)
		}
	}
	messages := func() uint64 {
		st, err := g.stream.State(testContext(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		return st.Msgs
	}
	g.edit(func(c *jetstream.StreamConfig) { c.AllowRollup = true })
	g.publish("alice", "1")
	g.publish("bob", "2")
	if wipe(); messages() != 1 {
		t.Fatalf("%d messages: a rollup is no longer what it was", messages())
	}
	open(t, g.nc, streams.Config{})
	g.publish("alice", "3")
	if wipe(); messages() != 2 {
		t.Errorf("%d messages, want those of mallory and alice", messages())
	}
}
