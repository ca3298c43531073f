package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	window  = 1024             // publishes that are not yet acknowledged, at most
	silence = 30 * time.Second // without any acknowledgement or message, after which no more is waited for
)

// mail is what a site publishes: each round has one message to each subject.
type mail struct {
	id       string
	subjects []string
	rounds   int      // that were published
	stored   []uint64 // their sequences
}

// send publishes so many rounds and returns once the stream has acknowledged all: at full speed, or so many messages a second.
// It publishes as a backend in any language does: with a reply subject, on which JetStream acknowledges.
func (m *mail) send(ctx context.Context, nc *nats.Conn, rounds int, perSecond float64) error {
	p, err := newPublisher(nc)
	if err != nil {
		return err
	}
	defer p.close()
	message := newMessage(m.id)
	began := time.Now()
	for i := range rounds * len(m.subjects) {
		pace(began, i, perSecond)
		if err := errors.Join(ctx.Err(), p.room(ctx)); err != nil {
			return err
		}
		stamp(message, m.rounds+1+i/len(m.subjects), time.Now())
		if err := nc.PublishRequest(m.subjects[i%len(m.subjects)], p.inbox, message); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	m.rounds += rounds
	for range window { // when all the room is ours, nothing is outstanding
		if err := p.room(ctx); err != nil {
			return err
		}
	}
	m.stored = append(m.stored, p.stored...)
	return p.failure()
}

// pace waits until it is the turn of the i-th message, from 0, since the first; 0 a second: at once.
func pace(began time.Time, i int, perSecond float64) {
	if perSecond > 0 {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
	}
}

// publisher bounds what is published and not yet acknowledged.
type publisher struct {
	inbox  string
	sub    *nats.Subscription
	free   chan struct{}
	failed atomic.Pointer[string]
	stored []uint64 // owned by the subscription, until all is acknowledged
}

func newPublisher(nc *nats.Conn) (*publisher, error) {
	p := &publisher{inbox: nc.NewInbox(), free: make(chan struct{}, window)}
	for range window {
		p.free <- struct{}{}
	}
	var err error
	p.sub, err = nc.Subscribe(p.inbox, p.acknowledged)
	return p, err
}

func (p *publisher) close() { _ = p.sub.Unsubscribe() }

// acknowledged takes a PubAck such as {"stream":"NOTIFICATIONS","seq":7}. Anything else is a failure.
func (p *publisher) acknowledged(msg *nats.Msg) {
	_, rest, found := bytes.Cut(msg.Data, []byte(`"seq":`))
	if !found || bytes.Contains(msg.Data, []byte(`"error"`)) {
		text := fmt.Sprintf("publish: %s%s", msg.Header.Get("Status"), msg.Data)
		p.failed.CompareAndSwap(nil, &text)
	} else if end := bytes.IndexAny(rest, ",} "); end > 0 {
		seq, _ := strconv.ParseUint(string(rest[:end]), 10, 64)
		p.stored = append(p.stored, seq)
	}
	select {
	case p.free <- struct{}{}:
	default: // two answers to one publish: not ours to judge
	}
}

// room waits until one more may be published.
func (p *publisher) room(ctx context.Context) error {
	select {
	case <-p.free:
		return p.failure()
	default:
	}
	late := time.NewTimer(silence)
	defer late.Stop()
	select {
	case <-p.free:
		return p.failure()
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errors.Join(fmt.Errorf("publish: no acknowledgement within %s", silence), p.failure())
	}
}

func (p *publisher) failure() error {
	if text := p.failed.Load(); text != nil {
		return errors.New(*text)
	}
	return nil
}
