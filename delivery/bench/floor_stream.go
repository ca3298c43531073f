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

// floorSubject is the subject on which ServeStream reports its counts.
const floorSubject = "bench.counted"

// streamCounts is the reply of ServeStream.
type streamCounts struct {
	Messages int
	Latency  quantiles
}

// ServeStream is the floor for storing and reading: it creates a stream with the settings of Tidings and counts the
// messages that one ordered consumer reads. It should run in the process of the NATS server. It calls ready once it
// counts, and serves until ctx is done.
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
	}, jetstream.PullMaxBytes(8<<20)) // like a gateway's tail
	if err != nil {
		return fmt.Errorf("ordered consumer: %w", err)
	}
	defer consuming.Stop()
	answering, err := nc.Subscribe(floorSubject, func(msg *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		answer := streamCounts{Messages: len(all)}
		if len(msg.Data) > 0 { // an empty request asks only for the number of messages
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
