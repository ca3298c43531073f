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

// streamFloor puts a load on a ServeStream.
func (b *bench) streamFloor(ctx context.Context, l load) (o outcome, err error) {
	b.step("the stream's floor: %s", l)
	server, err := b.cfg.StreamFloor(ctx)
	if err != nil {
		return o, err
	}
	defer server.Stop()
	nc, err := server.Connect()
	if err != nil {
		return o, err
	}
	defer nc.Close()
	m := newMail(l.users)
	if err := b.calm(ctx); err != nil {
		return o, err
	}
	spent, began := spending(server.PIDs), time.Now()
	if err := m.send(ctx, nc, l.rounds(), l.perSecond); err != nil {
		return o, err
	}
	for late := time.Now().Add(silence); ; {
		has, err := askCounted(ctx, nc, nil)
		if err != nil {
			return o, err
		}
		if has.Messages >= l.total() {
			break
		}
		if time.Now().After(late) {
			return o, fmt.Errorf("the stream's floor has %d of %d messages", has.Messages, l.total())
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return o, err
		}
	}
	o = l.outcome(time.Since(began), spent())
	has, err := askCounted(ctx, nc, []byte("latency"))
	o.latency = has.Latency
	return o, err
}

func askCounted(ctx context.Context, nc *nats.Conn, what []byte) (has counted, err error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, floorSubject, what)
	if err != nil {
		return has, fmt.Errorf("the stream's floor: %w", err)
	}
	return has, json.Unmarshal(answer.Data, &has)
}
