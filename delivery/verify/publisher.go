package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
)

// Publisher publishes numbered notifications and records each attempt and each acknowledgement. It is not safe for
// concurrent use.
type Publisher struct {
	// Pad is the number of padding bytes in each notification.
	Pad int

	log  *Log
	to   *streams.Publisher
	name string
	n    int
}

// NewPublisher returns a publisher. Its name must be unique in the Log.
func NewPublisher(l *Log, nc *nats.Conn, name string) (*Publisher, error) {
	to, err := streams.NewPublisher(nc, streams.Config{})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.publishers[name] {
		return nil, fmt.Errorf("publisher %s already exists in this log (use another name)", name)
	}
	if l.publishers == nil {
		l.publishers = map[string]bool{}
	}
	l.publishers[name] = true
	return &Publisher{log: l, to: to, name: name}, nil
}

// User publishes one notification to a user. If that fails, it retries with the same id until ctx ends. A notification
// that was not acknowledged by then may or may not be delivered.
func (p *Publisher) User(ctx context.Context, user string) error {
	return p.publish(ctx, target{name: user}, p.to.User)
}

// Topic publishes one notification to a topic, as User does.
func (p *Publisher) Topic(ctx context.Context, topic string) error {
	return p.publish(ctx, target{topic: true, name: topic}, p.to.Topic)
}

type publishFunc func(ctx context.Context, name string, n streams.Notification) (streams.Receipt, error)

func (p *Publisher) publish(ctx context.Context, to target, publish publishFunc) error {
	p.n++
	pub := publication{id: fmt.Sprintf("%s-%d", p.name, p.n), publisher: p.name, n: p.n, to: to}
	index := p.log.attempt(pub)
	n := streams.Notification{ID: pub.id, Data: pub.data(strings.Repeat("x", p.Pad))}
	for {
		receipt, err := publish(ctx, to.name, n)
		if err == nil {
			p.log.acknowledge(index, receipt.Seq)
			return nil
		}
		for _, final := range []error{streams.ErrBadName, streams.ErrBadNotification, streams.ErrTooLarge, nats.ErrConnectionClosed} {
			if errors.Is(err, final) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Run publishes one notification at each interval, to the users and topics in turn, until ctx ends.
func (p *Publisher) Run(ctx context.Context, every time.Duration, users, topics []string) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; len(users)+len(topics) > 0; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if i %= len(users) + len(topics); i < len(users) {
			_ = p.User(ctx, users[i]) // fails when ctx ends
		} else {
			_ = p.Topic(ctx, topics[i-len(users)])
		}
	}
}
