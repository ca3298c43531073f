package streams_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// settings of the stream as JSON, without what the server puts there.
func settings(t *testing.T, cfg jetstream.StreamConfig) map[string]any {
	t.Helper()
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	metadata := map[string]any{}
	if have, ok := all["metadata"].(map[string]any); ok {
		for key, value := range have {
			if !strings.HasPrefix(key, "_nats.") {
				metadata[key] = value
			}
		}
	}
	all["metadata"] = metadata
	return all
}

func wantSettings(t *testing.T, got, want jetstream.StreamConfig) {
	t.Helper()
	have, should := settings(t, got), settings(t, want)
	for key := range have {
		if _, ok := should[key]; !ok {
			should[key] = nil
		}
	}
	for key, value := range should {
		if fmt.Sprint(have[key]) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v", key, have[key], value)
		}
	}
}

// contract is the stream that Open makes by default.
func contract() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "NOTIFICATIONS",
		Description:       "Tidings: notifications to users and topics",
		Subjects:          []string{"notify.user.*", "notify.topic.*"},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		MaxAge:            30 * 24 * time.Hour,
		MaxMsgsPerSubject: 1000,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        (256 + 8) << 10,
		MaxConsumers:      1_000_000,
		Duplicates:        2 * time.Minute,
		Replicas:          1,
		AllowDirect:       true,
		AllowMsgTTL:       true,
		Metadata:          map[string]string{"tidings_version": "1"},
	}
}

func TestOpenMakesTheStream(t *testing.T) {
	s := streamstest.Run(t)
	g := open(t, s.Connect(t), streams.Config{})
	wantSettings(t, g.jetstream().CachedInfo().Config, contract())

	want := contract()
	want.Name, want.MaxAge, want.Duplicates, want.MaxMsgsPerSubject = "OTHER", time.Minute, time.Minute, 5
	want.MaxBytes, want.MaxMsgSize, want.MaxConsumers = 1<<20, (1+8)<<10, 7
	if err := g.js.DeleteStream(testContext(t, patience), "NOTIFICATIONS"); err != nil {
		t.Fatal(err)
	}
	g = open(t, s.Connect(t), streams.Config{
		Name: "OTHER", MaxAge: time.Minute, MaxMsgsPerSubject: 5, MaxBytes: 1 << 20, MaxNotification: 1 << 10, MaxConsumers: 7,
	})
	wantSettings(t, g.jetstream().CachedInfo().Config, want)
	if g.stream.Name() != "OTHER" || g.stream.MaxNotification() != 1<<10 {
		t.Errorf("%s, %d", g.stream.Name(), g.stream.MaxNotification())
	}
}

func TestOpenTwiceAtOnce(t *testing.T) {
	ctx := testContext(t, patience)
	for range 5 {
		nc := streamstest.Run(t).Connect(t)
		var gateways errgroup.Group
		for _, age := range []time.Duration{0, time.Hour, time.Hour, 0} { // who is late finds another stream, or none
			gateways.Go(func() error {
				_, err := streams.Open(ctx, nc, streams.Config{MaxAge: age})
				if age > 0 && errors.Is(err, streams.ErrStreamMismatch) {
					err = nil
				}
				return err
			})
		}
		if err := gateways.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// An existing stream gets what Tidings needs, and nothing else about it changes.
func TestOpenAdjustsTheStream(t *testing.T) {
	foreign := jetstream.StreamConfig{
		Name:                   "NOTIFICATIONS",
		Description:            "ours since 2019",
		Subjects:               []string{"notify.user.*", "something.else"},
		Storage:                jetstream.FileStorage,
		Discard:                jetstream.DiscardNew,
		MaxAge:                 time.Hour,
		MaxMsgs:                5000,
		MaxMsgsPerSubject:      10,
		MaxBytes:               1 << 20,
		MaxMsgSize:             1000,
		MaxConsumers:           10,
		Duplicates:             time.Minute,
		Replicas:               1,
		NoAck:                  true,
		AllowRollup:            true,
		DenyDelete:             true,
		Compression:            jetstream.S2Compression,
		AllowAtomicPublish:     true,
		SubjectDeleteMarkerTTL: time.Minute,
		RePublish:              &jetstream.RePublish{Source: "something.>", Destination: "copy.>"},
		Metadata:               map[string]string{"team": "a"},
	}
	for name, c := range map[string]struct {
		cfg  streams.Config
		want func(*jetstream.StreamConfig)
	}{
		"limits stay": {streams.Config{}, func(*jetstream.StreamConfig) {}},
		"limits grow": {
			streams.Config{MaxAge: 2 * time.Hour, MaxMsgsPerSubject: 20, MaxBytes: 2 << 20, MaxNotification: 2000, Duplicates: time.Second},
			func(want *jetstream.StreamConfig) {
				want.MaxAge, want.MaxMsgsPerSubject, want.MaxBytes = 2*time.Hour, 20, 2<<20
				want.MaxMsgSize, want.Duplicates = 2000+8<<10, time.Second
			},
		},
		"limits go": {
			streams.Config{MaxAge: -1, MaxMsgsPerSubject: -1, MaxBytes: -1, MaxNotification: 10, MaxConsumers: 5},
			func(want *jetstream.StreamConfig) {
				want.MaxAge, want.MaxMsgsPerSubject, want.MaxBytes = 0, -1, -1
				want.MaxMsgSize, want.MaxConsumers = 10+8<<10, 10
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := streamstest.Run(t)
			js := s.JetStream(t)
			if _, err := js.CreateStream(testContext(t, patience), foreign); err != nil {
				t.Fatal(err)
			}
			want := foreign
			want.Subjects = append(slices.Clone(want.Subjects), "notify.topic.*")
			want.AllowDirect, want.AllowMsgTTL, want.NoAck, want.Discard = true, true, false, jetstream.DiscardOld
			want.AllowRollup, want.AllowAtomicPublish, want.SubjectDeleteMarkerTTL = false, false, 0
			want.MaxConsumers = 1_000_000
			c.want(&want)
			for range 2 { // the second time there is nothing to do
				g := open(t, s.Connect(t), c.cfg)
				wantSettings(t, g.jetstream().CachedInfo().Config, want)
			}
		})
	}
}

func TestOpenNeverShrinks(t *testing.T) {
	s := streamstest.Run(t)
	g := open(t, s.Connect(t), streams.Config{MaxBytes: 10 << 20})
	for flag, cfg := range map[string]streams.Config{
		"--max-age 1h0m0s":      {MaxAge: time.Hour},
		"--max-msgs-per-user 5": {MaxMsgsPerSubject: 5},
		"--max-bytes 1048576":   {MaxBytes: 1 << 20},
	} {
		_, err := streams.Open(testContext(t, patience), g.nc, cfg)
		if !errors.Is(err, streams.ErrStreamMismatch) || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), "nats stream edit") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	want := contract()
	want.MaxBytes = 10 << 20
	wantSettings(t, g.jetstream().CachedInfo().Config, want)

	// No limit is more than any.
	g = open(t, s.Connect(t), streams.Config{MaxAge: -1, MaxMsgsPerSubject: -1, MaxBytes: -1})
	for _, cfg := range []streams.Config{{MaxAge: 1000 * time.Hour}, {MaxMsgsPerSubject: 1 << 40}, {MaxBytes: 1 << 40}} {
		if _, err := streams.Open(testContext(t, patience), g.nc, cfg); !errors.Is(err, streams.ErrStreamMismatch) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		have jetstream.StreamConfig
		say  string
	}{
		"memory":    {jetstream.StreamConfig{Storage: jetstream.MemoryStorage}, "nats stream rm NOTIFICATIONS"},
		"workqueue": {jetstream.StreamConfig{Retention: jetstream.WorkQueuePolicy}, "nats stream rm NOTIFICATIONS"},
		"counters":  {jetstream.StreamConfig{AllowMsgCounter: true}, "stream of counters"},
		"mirror":    {jetstream.StreamConfig{Mirror: &jetstream.StreamSource{Name: "OTHER"}}, "another --stream"},
		"source":    {jetstream.StreamConfig{Sources: []*jetstream.StreamSource{{Name: "OTHER"}}}, "another --stream"},
		"async":     {jetstream.StreamConfig{PersistMode: jetstream.AsyncPersistMode}, "nats stream rm NOTIFICATIONS"},
		"sealed":    {jetstream.StreamConfig{Sealed: true}, "another --stream"},
	} {
		t.Run(name, func(t *testing.T) {
			s := streamstest.Run(t)
			js := s.JetStream(t)
			ctx := testContext(t, patience)
			if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}}); err != nil {
				t.Fatal(err)
			}
			c.have.Name = "NOTIFICATIONS"
			sealed := c.have.Sealed
			c.have.Sealed = false
			if c.have.Mirror == nil {
				c.have.Subjects = []string{"notify.user.*", "notify.topic.*"}
			}
			if _, err := js.CreateStream(ctx, c.have); err != nil {
				t.Fatal(err)
			}
			if c.have.Sealed = sealed; sealed {
				if _, err := js.UpdateStream(ctx, c.have); err != nil {
					t.Fatal(err)
				}
			}
			_, err := streams.Open(ctx, s.Connect(t), streams.Config{})
			if !errors.Is(err, streams.ErrStreamMismatch) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%v; it should say %q", err, c.say)
			}
		})
	}
	t.Run("another stream has the subjects", func(t *testing.T) {
		s := streamstest.Run(t)
		ctx := testContext(t, patience)
		if _, err := s.JetStream(t).CreateStream(ctx, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"notify.>"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := streams.Open(ctx, s.Connect(t), streams.Config{}); err == nil || !strings.Contains(err.Error(), "overlap") {
			t.Error(err)
		}
	})
}

func TestNoJetStream(t *testing.T) {
	nc := streamstest.Run(t, streamstest.WithoutJetStream()).Connect(t)
	ctx := testContext(t, patience)
	if _, err := streams.Open(ctx, nc, streams.Config{}); !errors.Is(err, streams.ErrNoJetStream) || !strings.Contains(err.Error(), "-js") {
		t.Errorf("open: %v", err)
	}
	if _, err := streams.Find(ctx, nc, streams.Config{}); !errors.Is(err, streams.ErrNoJetStream) {
		t.Errorf("find: %v", err)
	}
	account := streamstest.Run(t, streamstest.WithConfig(`accounts { APP { users: [{user: a, password: x}] } }`))
	if _, err := streams.Open(ctx, account.Connect(t, nats.UserInfo("a", "x")), streams.Config{}); !errors.Is(err, streams.ErrNoJetStream) {
		t.Errorf("an account without JetStream: %v", err)
	}
}

func TestNoPermission(t *testing.T) {
	s := streamstest.Run(t, streamstest.WithConfig(`
		accounts { APP { jetstream: enabled, users: [
			{user: none, password: x, permissions: {publish: {deny: ">"}}}
		] } }`))
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	nc := s.Connect(t, nats.UserInfo("none", "x"), quiet)
	for what, try := range map[string]func(context.Context) error{
		"open":    func(ctx context.Context) error { _, err := streams.Open(ctx, nc, streams.Config{}); return err },
		"find":    func(ctx context.Context) error { _, err := streams.Find(ctx, nc, streams.Config{}); return err },
		"publish": func(ctx context.Context) error { return publishError(ctx, t, nc) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			err := try(testContext(t, 500*time.Millisecond))
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "lacks permission") || time.Since(began) > 5*time.Second {
				t.Errorf("after %s: %v", time.Since(began), err)
			}
		})
	}
}

func publishError(ctx context.Context, t *testing.T, nc *nats.Conn) error {
	pub, err := streams.NewPublisher(nc, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = pub.User(ctx, "a", streams.Notification{})
	return err
}

func TestFind(t *testing.T) {
	s := streamstest.Run(t)
	ctx := testContext(t, patience)
	if _, err := streams.Find(ctx, s.Connect(t), streams.Config{}); !errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), "--stream") {
		t.Errorf("nothing there: %v", err)
	}
	have := jetstream.StreamConfig{Name: "NOTIFICATIONS", Subjects: []string{"notify.>"}, Storage: jetstream.MemoryStorage}
	js := s.JetStream(t)
	made, err := js.CreateStream(ctx, have)
	if err != nil {
		t.Fatal(err)
	}
	before := made.CachedInfo().Config
	if _, err := streams.Find(ctx, s.Connect(t), streams.Config{MaxAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if info, err := made.Info(ctx); err != nil {
		t.Error(err)
	} else {
		wantSettings(t, info.Config, before)
	}
}

func TestState(t *testing.T) {
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{})
	ctx := testContext(t, patience)
	empty, err := g.stream.State(ctx)
	if err != nil || empty.Last != 0 || empty.Msgs != 0 {
		t.Fatalf("%+v, %v", empty, err)
	}
	if _, found, err := g.stream.Oldest(ctx, userSubject(t, "bob")); err != nil || found {
		t.Errorf("the oldest of none: %v, %v", found, err)
	}
	for _, user := range []string{"alice", "bob", "bob"} {
		g.publish(user, "hello")
	}
	st, err := g.stream.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.First != 1 || st.Last != 3 || st.Msgs != 3 || st.Bytes == 0 || st.Epoch != empty.Epoch || st.Replicas != 1 ||
		st.MaxAge != 30*24*time.Hour || st.MaxMsgsPerSubject != 1000 || st.Now.Sub(st.FirstTime) < 0 || st.Now.Sub(st.FirstTime) > time.Minute {
		t.Errorf("%+v", st)
	}
	if seq, found, err := g.stream.Oldest(ctx, userSubject(t, "bob")); err != nil || !found || seq != 2 {
		t.Errorf("the oldest is %d, %v, %v", seq, found, err)
	}

	// A new epoch is one to every gateway, and changes nothing else.
	next, err := g.stream.NewEpoch(ctx)
	if err != nil || next.Epoch == st.Epoch || next.Last != 3 {
		t.Fatalf("%+v, %v", next, err)
	}
	other := open(t, g.nc, streams.Config{})
	if st, err := other.stream.State(ctx); err != nil || st.Epoch != next.Epoch {
		t.Errorf("the other gateway: %+v, %v", st, err)
	}
	for _, r := range next.Epoch {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789", r) {
			t.Errorf("epoch %q", next.Epoch)
		}
	}
	got := g.jetstream().CachedInfo().Config
	if got.Metadata["tidings_generation"] == "" {
		t.Error("no generation")
	}
	delete(got.Metadata, "tidings_generation")
	wantSettings(t, got, contract())
}

// The server refuses the 1,001st consumer of a stream that does not say otherwise.
func TestManyUsersAttach(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	others := streamstest.Either(1000, 0)
	g.small(others)
	users := streamstest.Either(100, 1500)
	cursors := streams.NewCursors(g.tail, streams.CursorsConfig{})
	mark := g.mark()
	var all errgroup.Group
	all.SetLimit(64)
	for i := range users {
		all.Go(func() error {
			_, err := cursors.Attach(t.Context(), streams.CursorID{User: fmt.Sprint(i)}, mark, math.MaxUint64)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := g.jetstream().CachedInfo().State.Consumers; n < others+users {
		t.Errorf("%d consumers, %d of them of others, for %d users", n, others, users)
	}
}

func TestTooManyConsumers(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxConsumers: 3}, streams.TailConfig{})
	cursors := streams.NewCursors(g.tail, streams.CursorsConfig{})
	var err error
	for i := range 3 { // the tail has one
		_, err = cursors.Attach(testContext(t, patience), streams.CursorID{User: fmt.Sprint(i)}, g.mark(), math.MaxUint64)
	}
	if !errors.Is(err, jetstream.ErrMaximumConsumersLimit) || !strings.Contains(err.Error(), "max_consumers") {
		t.Error(err)
	}
}

// A gateway for whose own consumer there is no room is not ready, and says why.
func TestNoConsumerForTheTail(t *testing.T) {
	t.Parallel()
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{MaxConsumers: 1})
	if _, err := g.jetstream().CreateConsumer(testContext(t, patience), jetstream.ConsumerConfig{Durable: "other"}); err != nil {
		t.Fatal(err)
	}
	tail := streams.NewTail(g.stream, streams.TailConfig{Encode: encode})
	start(t, tail.Run)
	streamstest.Eventually(t, patience, func() error {
		if err := tail.Check(); err == nil || !strings.Contains(err.Error(), "limit of consumers is reached (raise max_consumers") {
			return fmt.Errorf("%v, want the reason", err)
		}
		return nil
	})
	if err := g.js.DeleteConsumer(testContext(t, patience), g.stream.Name(), "other"); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, tail.Check)
}
