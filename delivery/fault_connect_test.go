package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// However often clients come while publishing never stops, live says each time what is so: all that the stream held when they
// authenticated has been sent. Some are served from memory, others from the stream; and the Tail loses its consumer now and then,
// and lags behind the stream.
func TestLiveIsSoWhileWhatIsStoredNeverStops(t *testing.T) {
	t.Parallel()
	times := streamstest.Either(50, 1000)
	server := streamstest.Run(t)
	s := newSiege(t, server.URL())
	s.gateway(t, server.URL())
	s.gateway(t, server.URL(), func(c *nodeConfig) { c.delivery.Ping, c.tail.MaxBytes = calmPing, 20<<10 })
	for i := range 3 {
		user := fmt.Sprint("user-", i)
		s.client(t, verify.ClientConfig{User: user, Ack: verify.AckSometimes})
		s.client(t, verify.ClientConfig{Name: user + " without memory", User: user, Ack: verify.AckSometimes, Forget: true})
		s.client(t, verify.ClientConfig{Name: user + "'s tablet", User: user, Ack: verify.AckNever, Device: "tablet"})
	}
	s.live(t)
	s.publishing(t, 4, time.Millisecond, names("user-", 3), []string{"all"})
	lost := time.Now()
	streamstest.Eventually(t, recovery*streamstest.Either[time.Duration](1, 10), func() error {
		if time.Since(lost) > 200*time.Millisecond {
			lost = time.Now()
			s.deleteTails(t)
		}
		for _, g := range s.guests {
			if g.Live() {
				g.Drop()
			}
		}
		if now := s.log.Stats(); now.Live < times {
			return fmt.Errorf("only %d connections were live: %s", now.Live, now)
		}
		return nil
	})
	s.calm(t)
}

// deleteTails deletes the consumers by which gateways read the stream, as an operator might.
func (b *backend) deleteTails(t *testing.T) {
	t.Helper()
	stream, err := b.js.Stream(t.Context(), streams.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	for name := range stream.ConsumerNames(t.Context()).Name() {
		if strings.HasPrefix(name, "tidings-") {
			_ = stream.DeleteConsumer(t.Context(), name) // it may be gone already
		}
	}
}
