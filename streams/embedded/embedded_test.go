package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

func TestDataSurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	elsewhere := []string{t.TempDir(), t.TempDir()}
	t.Setenv("TMPDIR", elsewhere[0])
	t.Chdir(elsewhere[1])

	s := start(t, Config{Dir: dir})
	js := connect(t, s.ClientURL())
	stream := makeStream(t, js)
	makeDurables(t, stream, 1, jetstream.FileStorage)
	for range 5 {
		if _, err := js.Publish(testContext(t), "s.0", []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.ResetConsumerToSequence(testContext(t), "user-0", 4); err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	stop(t, s) // idempotent

	s = start(t, Config{Dir: dir})
	stream, err := connect(t, s.ClientURL()).Stream(testContext(t), "S")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 5 {
		t.Errorf("%d messages after the restart, want 5", n)
	}
	durable, err := stream.Consumer(testContext(t), "user-0")
	if err != nil {
		t.Fatal(err)
	}
	if info := durable.CachedInfo(); info.AckFloor.Stream != 3 || info.NumPending != 2 {
		t.Errorf("position %d with %d unread after the restart, want 3 with 2", info.AckFloor.Stream, info.NumPending)
	}
	for _, dir := range elsewhere {
		if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
			t.Errorf("files outside the data directory: %v %v", files, err)
		}
	}
	if info, err := os.Stat(dir); err != nil || (runtime.GOOS != "windows" && info.Mode().Perm() != 0o700) {
		t.Errorf("data directory: %v %v", info, err)
	}
}

func TestServerOptions(t *testing.T) {
	always := start(t, Config{Dir: t.TempDir()})
	jsc := always.server().JetStreamConfig()
	if !jsc.SyncAlways || jsc.MaxMemory != 64<<20 || maxStore(t, always) < 1<<20 {
		t.Errorf("by default: %+v", jsc)
	}
	nc, err := always.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.MaxPayload() != 1<<20 || nc.ConnectedServerName() != "tidings" {
		t.Errorf("server %q takes %d bytes", nc.ConnectedServerName(), nc.MaxPayload())
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	makeDurables(t, makeStream(t, js), 1001, jetstream.MemoryStorage) // the server's own default is 1,000

	relaxed := start(t, Config{
		Dir: t.TempDir(), Host: "0.0.0.0", Name: "other", SyncInterval: time.Second,
		MaxStore: 5 << 20, MaxMemory: 6 << 20, MaxPayload: 7 << 10,
	})
	jsc = relaxed.server().JetStreamConfig()
	if jsc.SyncAlways || jsc.SyncInterval != time.Second || maxStore(t, relaxed) != 5<<20 || jsc.MaxMemory != 6<<20 {
		t.Errorf("as configured: %+v", jsc)
	}
	if !strings.HasPrefix(relaxed.ClientURL(), "nats://127.0.0.1:") {
		t.Errorf("URL %s", relaxed.ClientURL())
	}
	nc, err = relaxed.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.MaxPayload() != 7<<10 || nc.ConnectedServerName() != "other" {
		t.Errorf("server %q takes %d bytes", nc.ConnectedServerName(), nc.MaxPayload())
	}
}

// maxStore returns the store limit of the account.
func maxStore(t *testing.T, s *Server) int64 {
	t.Helper()
	info, err := connect(t, s.ClientURL()).AccountInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.Limits.MaxStore
}

// TestStreamReservesMostOfTheDisk checks that the limit of the account can be changed although a stream reserves most
// of the disk with max_bytes.
func TestStreamReservesMostOfTheDisk(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	limit := maxStore(t, s)
	_, err := connect(t, s.ClientURL()).CreateStream(testContext(t), jetstream.StreamConfig{Name: "S", MaxBytes: limit - limit/10})
	if err != nil {
		t.Fatal(err)
	}
	for _, bytes := range []int64{0, limit + limit/10, limit} {
		if err := s.setStoreLimit(bytes); err != nil || maxStore(t, s) != bytes {
			t.Errorf("a limit of %d: %v", bytes, err)
		}
	}
}

func TestStartCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	release := make(chan struct{})
	hook := &logHook{seen: func(line string) {
		if strings.Contains(line, "Starting JetStream") { // logged from within the server's start
			cancel()
			<-release
		}
	}}
	dir := t.TempDir()
	cfg := Config{Dir: dir, Port: -1, StopTimeout: 50 * time.Millisecond, Logger: zerolog.New(hook)}
	if _, err := Start(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
	if _, err := Start(t.Context(), Config{Dir: dir, Port: -1}); !errors.Is(err, ErrInUse) {
		t.Errorf("start while the first server still starts in the background: %v", err)
	}
	close(release)
	startWhenFree(t, Config{Dir: dir})

	if _, err := Start(ctx, Config{Dir: t.TempDir(), Port: -1}); !errors.Is(err, context.Canceled) {
		t.Errorf("start with a canceled context: %v", err)
	}
}

func TestStartTimesOut(t *testing.T) {
	hook := &logHook{}
	s := &Server{
		cfg:     Config{Dir: "data", StartTimeout: 50 * time.Millisecond},
		log:     zerolog.New(hook),
		started: make(chan struct{}),
	}
	err := s.awaitReady(t.Context(), holding{durables: 7, bytes: 3 << 20}, 10*time.Millisecond)
	want := "NATS server not ready after 50ms with 7 durable consumers and 3 MiB of messages in data (allow a longer start)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if !strings.Contains(hook.String(), "recovering the JetStream store") {
		t.Errorf("no progress in the log: %s", hook)
	}
}

func TestDefaults(t *testing.T) {
	for _, test := range []struct {
		held holding
		want time.Duration
	}{
		{holding{}, 2 * time.Minute},
		{holding{durables: 100_000}, 1120 * time.Second},
		{holding{durables: 10_000, bytes: 10 << 30}, 732 * time.Second},
		{holding{durables: 5_000_000}, 30 * time.Minute},
	} {
		if got := (Config{}).startTimeout(test.held); got != test.want {
			t.Errorf("%+v: start timeout %s, want %s", test.held, got, test.want)
		}
	}
	const gib = 1 << 30
	for _, test := range []struct {
		held        int64
		free, total uint64
		want        int64
	}{
		{0, 100 * gib, 200 * gib, 90 * gib},       // 5% of the disk stay free
		{50 * gib, 50 * gib, 200 * gib, 90 * gib}, // the same if the store already uses half of it
		{0, 10 * gib, 10 * gib, 9 * gib},          // 1 GiB stays free
		{0, gib, 10 * gib, gib / 2},               // half of what is free
		{0, 24 << 20, 24 << 20, 21 << 20},         // an eighth of a small disk stays free
		{18 << 20, 6 << 20, 24 << 20, 21 << 20},   // the same after a restart
		{2 * gib, 0, 10 * gib, 2 * gib},           // a full disk
		{0, 0, 0, 0},                              // unknown: the server chooses
	} {
		if got := (Config{}).maxStore(holding{bytes: test.held}, test.free, test.total); got != test.want {
			t.Errorf("%+v: max store %d", test, got)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for want, cfg := range map[string]Config{
		"no data directory":      {},
		"port 70000":             {Dir: "x", Port: 70_000},
		"sync interval 1µs":      {Dir: "x", SyncInterval: time.Microsecond},
		"sync interval -1s":      {Dir: "x", SyncInterval: -time.Second},
		"must not be negative":   {Dir: "x", MaxStore: -1},
		"configure NATS server:": {Dir: t.TempDir(), Port: -1, MaxPayload: 1 << 30},
		"192.0.2.1":              {Dir: t.TempDir(), Port: -1, Host: "192.0.2.1"}, // reserved for documentation
	} {
		s, err := Start(t.Context(), cfg)
		if err == nil {
			stop(t, s)
		}
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%+v: %v, want something about %q", cfg, err, want)
		}
	}
}
