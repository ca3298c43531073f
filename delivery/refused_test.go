package delivery_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// edit changes the stream's settings, as nats stream edit does.
func (b *backend) edit(t *testing.T, change func(*jetstream.StreamConfig)) {
	t.Helper()
	stream, err := b.js.Stream(t.Context(), streams.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	change(&cfg)
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// What NATS refuses until an operator acts is said at once and by its name, not tried again until NATS is called unavailable.
func TestWhatNATSRefusesIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	for reason, change := range map[string]func(*jetstream.StreamConfig){
		"the stream is sealed":                       func(c *jetstream.StreamConfig) { c.Sealed = true },
		"the stream is full and refuses what is new": func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, 1 },
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			n := newTown(t, withKeys(apiKey), func(c *nodeConfig) { c.tail.Poll = time.Hour })
			n.to(t, "alice", "1")
			n.edit(t, change)
			began := time.Now()
			got := as[problem](n.call(t, http.MethodPost, "/v1/notifications", `{"to":"alice","data":2}`).is(503))
			if took := time.Since(began); !strings.HasPrefix(got.Detail, reason) || took > 5*time.Second {
				t.Errorf("after %s: %q, want %q", took, got.Detail, reason)
			}
		})
	}
}

func TestAUserForWhomThereIsNoConsumerIsToldWhy(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.stream.MaxConsumers = 2 }) // the gateway has one
	n.live(t, "alice")
	p := n.dial(t)
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "bob"})
	if goaway := p.closed(wire.CloseUnavailable); !strings.Contains(goaway.Reason, "limit of consumers") || goaway.RetryAfter < 30_000 {
		t.Errorf("%+v", goaway)
	}
}
