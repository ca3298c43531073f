package streamstest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

func TestServerRestarts(t *testing.T) {
	s := Run(t)
	url := s.URL()
	js := s.JetStream(t)
	makeStream(t, js)
	publish(t, js, 3)

	s.Stop()
	s.Stop() // does nothing
	if err := holds(js, 3)(); err == nil {
		t.Error("a stopped server still answers")
	}
	s.Restart()
	if s.URL() != url {
		t.Errorf("restarted at %s, was at %s", s.URL(), url)
	}
	Eventually(t, 10*time.Second, holds(js, 3)) // the connection has reconnected
	s.Restart()
	Eventually(t, 10*time.Second, holds(js, 3))
}

func makeDurable(t *testing.T, stream jetstream.Stream, i int) error {
	_, err := stream.CreateConsumer(testContext(t), jetstream.ConsumerConfig{Durable: fmt.Sprint("c", i)})
	return err
}

func TestServerLimits(t *testing.T) {
	js := Run(t, WithDefaultMaxConsumers(2), WithMaxStore(1<<20), WithSyncAlways()).JetStream(t)
	stream := makeStream(t, js)
	for i := range 3 {
		err := makeDurable(t, stream, i)
		if refused := errors.Is(err, jetstream.ErrMaximumConsumersLimit); refused != (i == 2) {
			t.Errorf("consumer %d: %v", i, err)
		}
	}
	big := make([]byte, 600<<10)
	for i := range 3 {
		_, err := js.Publish(testContext(t), "s.big", big)
		if refused := err != nil; refused != (i == 2) {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// TestServerHasTheDefaultConsumerLimit checks that the test server allows 1,000 consumers per stream, as an external
// server does by default, so that the other tests cover that limit.
func TestServerHasTheDefaultConsumerLimit(t *testing.T) {
	t.Parallel()
	js := Run(t).JetStream(t)
	stream := makeStream(t, js)
	var makers errgroup.Group
	makers.SetLimit(16)
	for i := range 1000 {
		makers.Go(func() error { return makeDurable(t, stream, i) })
	}
	if err := makers.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := makeDurable(t, stream, 1000); !errors.Is(err, jetstream.ErrMaximumConsumersLimit) {
		t.Errorf("consumer 1,001: %v", err)
	}
	began := time.Now()
	t.Cleanup(func() { // runs after the server's own cleanup
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a server with 1,000 durables took %s to stop", took)
		}
	})
}

func TestServerWithoutJetStream(t *testing.T) {
	js := Run(t, WithoutJetStream()).JetStream(t)
	if _, err := js.AccountInfo(testContext(t)); !errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		t.Errorf("account info: %v", err)
	}
}

func TestServerWithConfig(t *testing.T) {
	s := Run(t, WithConfig(`
		accounts {
			APP {
				jetstream: enabled
				users: [
					{user: admin, password: x}
					{user: reader, password: x, permissions: {publish: {deny: "s.>"}}}
				]
			}
		}`))
	js := s.JetStream(t, nats.UserInfo("admin", "x"))
	makeStream(t, js)
	publish(t, js, 1)

	denied := make(chan error, 1)
	nc := s.Connect(t, nats.UserInfo("reader", "x"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		denied <- err
	}))
	if err := nc.Publish("s.1", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-denied; !strings.Contains(err.Error(), "Permissions Violation") {
		t.Errorf("publish: %v", err)
	}
	if _, err := nats.Connect(s.URL()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connect without a user: %v", err)
	}
}

func TestServerThatCannotStart(t *testing.T) {
	port := Run(t).cfg.Port
	cfg := newConfig(t, []Option{WithPort(port)})
	if _, err := launch(cfg, &serverLog{}); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("two servers on a port: %v", err)
	}
}
