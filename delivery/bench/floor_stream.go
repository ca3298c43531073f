package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
)

// floorSubject is where a ServeStream is asked what it counted.
const floorSubject = "bench.counted"

// counted is what it answers.
type counted struct {
	Messages int
	Latency  quantiles
}

// ServeStream is one floor: it makes a stream as Tidings' is and reads it with one bare ordered consumer, which counts. Beside a
// NATS server in the same process it is the least that storing and reading costs. It serves until ctx is done, and calls ready once
// it counts.
func ServeStream(ctx context.Context, nc *nats.Conn, ready func()) error {
	if _, err := streams.Open(ctx, nc, streams.Config{}); err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.OrderedConsumer(ctx, streams.DefaultName, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("ordered consumer: %w", err)
	}
	var (
		mu  sync.Mutex
		all latencies
	)
	consuming, err := consumer.Consume(func(msg jetstream.Msg) {
		now := time.Now()
		if _, at, ours := readMessage(msg.Data(), ""); ours {
			mu.Lock()
			all = append(all, now.Sub(at))
			mu.Unlock()
		}
	}, jetstream.PullMaxBytes(8<<20)) // as a gateway's Tail
	if err != nil {
		return fmt.Errorf("ordered consumer: %w", err)
	}
	defer consuming.Stop()
	answering, err := nc.Subscribe(floorSubject, func(msg *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		answer := counted{Messages: len(all)}
		if len(msg.Data) > 0 { // else it is only a look at how far it is
			answer.Latency = append(latencies{}, all...).quantiles()
		}
		data, _ := json.Marshal(answer)
		_ = msg.Respond(data)
	})
	if err != nil {
		return err
	}
	defer func() { _ = answering.Unsubscribe() }()
	if err := nc.FlushTimeout(silence); err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}
