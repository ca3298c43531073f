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
	window  = 1024             // maximum number of publishes without an acknowledgement yet
	silence = 30 * time.Second // time without any acknowledgement or message, after which waiting ends
)

// mail publishes messages in rounds. Each round has one message to each subject.
type mail struct {
	id       string
	subjects []string
	rounds   int      // number of published rounds
	stored   []uint64 // sequences of the messages in the stream
}

// send publishes the given number of rounds, at the given rate or at full speed if that is 0. It returns when the
// stream has acknowledged all messages. Like backends in any language, it publishes with a reply subject to which
// JetStream sends acknowledgements.
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
		if err := errors.Join(ctx.Err(), p.acquire(ctx)); err != nil {
			return err
		}
		stamp(message, m.rounds+1+i/len(m.subjects), time.Now())
		if err := nc.PublishRequest(m.subjects[i%len(m.subjects)], p.inbox, message); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	m.rounds += rounds
	for range window { // with the whole window acquired, no acknowledgement is outstanding
		if err := p.acquire(ctx); err != nil {
			return err
		}
	}
	m.stored = append(m.stored, p.stored...)
	return p.failure()
}

// pace waits until message i, counted from 0, is due at the given rate. With a rate of 0 it returns immediately.
func pace(began time.Time, i int, perSecond float64) {
	if perSecond > 0 {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
	}
}

// publisher limits the number of publishes without an acknowledgement.
type publisher struct {
	inbox  string
	sub    *nats.Subscription
	free   chan struct{}
	failed atomic.Pointer[string]
	stored []uint64 // used by the subscription until all publishes are acknowledged
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

// acknowledged handles a PubAck such as {"stream":"NOTIFICATIONS","seq":7}. Anything else counts as a failure.
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
	default: // a second reply to the same publish, which is ignored
	}
}

// acquire waits until one more message may be published.
func (p *publisher) acquire(ctx context.Context) error {
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
