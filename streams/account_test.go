package streams_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// accountOf is a NATS account with limits.
func accountOf(limits string) streamstest.Option {
	return streamstest.WithConfig(`accounts { APP { jetstream: { ` + limits + ` }, users: [{user: a, password: x}] } }`)
}

func (g *gateway) attach(user string) error {
	cursors := streams.NewCursors(g.tail, streams.CursorsConfig{})
	_, err := cursors.Attach(testContext(g, patience), streams.CursorID{User: user}, g.mark(), math.MaxUint64)
	return err
}

// The stream keeps to the account's limit of consumers, which is named when it is reached.
func TestAnAccountThatAllowsFewConsumers(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t, accountOf("max_consumers: 3, max_ack_pending: 10"))
	for range 2 { // one makes the stream, the other finds it
		nc := server.Connect(t, nats.UserInfo("a", "x"))
		g := run(t, nc, streams.Config{}, streams.TailConfig{})
		if limit := g.jetstream().CachedInfo().Config.MaxConsumers; limit != -1 {
			t.Errorf("max_consumers is %d", limit)
		}
	}
	nc := server.Connect(t, nats.UserInfo("a", "x"))
	g := open(t, nc, streams.Config{})
	g.tail = run(t, nc, streams.Config{}, streams.TailConfig{}).tail
	var err error
	for i := range 3 {
		if err = g.attach(fmt.Sprint(i)); err != nil {
			break
		}
	}
	if !errors.Is(err, jetstream.ErrMaximumConsumersLimit) || !strings.Contains(err.Error(), "raise max_consumers of the NATS account") {
		t.Errorf("one too many: %v", err)
	}
}

// A limit that comes later keeps the stream from no change.
func TestAnAccountThatAllowsFewerConsumersThanTheStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := streamstest.Run(t, streamstest.WithDir(dir), accountOf(""))
	g := open(t, server.Connect(t, nats.UserInfo("a", "x")), streams.Config{})
	g.edit(func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	server.Stop()

	server = streamstest.Run(t, streamstest.WithDir(dir), accountOf("max_consumers: 30"))
	g = open(t, server.Connect(t, nats.UserInfo("a", "x")), streams.Config{})
	if cfg := g.jetstream().CachedInfo().Config; cfg.MaxConsumers != -1 || !cfg.AllowDirect {
		t.Errorf("max_consumers %d, allow_direct %v", cfg.MaxConsumers, cfg.AllowDirect)
	}
	g.newEpoch()

	account, err := g.js.AccountInfo(testContext(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	in, err := streams.Inspect(testContext(t, patience), g.nc, streams.Config{}, account)
	if err != nil || len(in.Changes) > 0 || in.MaxConsumers != 30 || in.AccountConsumers != 30 {
		t.Errorf("%+v, %v", in, err)
	}
}

// Other limits of an account have flags, which the refusal names.
func TestAnAccountThatLimitsStreams(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t, accountOf("max_store: 10MB, max_bytes_required: true, store_max_stream_bytes: 1MB"))
	nc := server.Connect(t, nats.UserInfo("a", "x"))
	for _, tooMany := range []int64{0, 2 << 20} {
		if _, err := streams.Open(testContext(t, patience), nc, streams.Config{MaxBytes: tooMany}); err == nil || !strings.Contains(err.Error(), "--max-bytes") {
			t.Errorf("%d bytes: %v", tooMany, err)
		}
	}
	open(t, nc, streams.Config{MaxBytes: 1 << 20})
}
