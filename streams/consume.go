package streams

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	pullBytes     = 8 << 20   // asked for at once
	pullMessages  = 1_000_000 // likewise: the bytes come first
	pullExpires   = 10 * time.Second
	pullHeartbeat = time.Second
	// pullLinkRate is the least speed of a link, in bytes per second, on which a large message is not taken for silence: nothing of it
	// is seen before all of it has come.
	pullLinkRate = 10 << 20
)

var errSilent = errors.New("NATS went silent")

// pullRequest is what $JS.API.CONSUMER.MSG.NEXT is asked.
type pullRequest struct {
	Batch     int           `json:"batch"`
	MaxBytes  int           `json:"max_bytes"`
	NoWait    bool          `json:"no_wait,omitempty"`
	Expires   time.Duration `json:"expires,omitempty"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

// delivered reads a message that a consumer sent. It is not ok for a status of the server. A message has a reply subject, for its
// acknowledgement, and a status has none, whatever a publisher wrote into headers.
func delivered(msg *nats.Msg) (m Message, at uint64, ok bool) {
	meta, err := msg.Metadata()
	if err != nil {
		return Message{}, 0, false
	}
	return newMessage(meta.Sequence.Stream, msg.Subject, meta.Timestamp, msg.Header, msg.Data), meta.Sequence.Consumer, true
}

// createConsumer makes a consumer of the messages of a subject behind a seq. The server deletes it when it was not used for a while, and
// remove before.
func (s *Stream) createConsumer(ctx context.Context, what, subject string, after uint64, unused time.Duration) (name string, remove func(), err error) {
	cfg := jetstream.ConsumerConfig{
		Name:              "tidings-" + nuid.Next(), // so that an operator knows whose it is
		Description:       what,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: unused,
	}
	if subject != ">" {
		cfg.FilterSubject = subject
	}
	if _, err := s.js.CreateConsumer(ctx, s.name, cfg); err != nil {
		return "", nil, explain(err)
	}
	return cfg.Name, func() {
		ctx, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		if s.nc.IsConnected() {
			_ = s.js.DeleteConsumer(ctx, s.name, cfg.Name)
		}
	}, nil
}

func (s *Stream) nextSubject(consumer string) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + s.name + "." + consumer
}

// consume starts a consumer behind what the ring has. It is cancelled with a cause when a message is missing, when the
// consumer is gone and when NATS goes silent. Stop it.
func (t *Tail) consume(ctx context.Context, r *ring, cancel context.CancelCauseFunc) (*consuming, error) {
	s := t.stream
	name, remove, err := s.createConsumer(ctx, "Tidings gateway: reads the stream into memory", ">", r.position(), 30*time.Second)
	if err != nil {
		return nil, fmt.Errorf("tail consumer: %w", err)
	}
	// The stream may have been replaced since it was looked at; now it cannot be another than the consumer's.
	if st, err := s.State(ctx); err != nil || st.Epoch != r.epoch {
		remove()
		return nil, cmp.Or(err, errAnew)
	}
	c := &consuming{
		tail: t, ring: r, cancel: cancel, name: name, remove: remove,
		pull:    pull{nc: s.nc, subject: s.nextSubject(name), inbox: s.nc.NewInbox(), window: pullBytes},
		silence: 2*pullHeartbeat + time.Duration(s.nc.MaxPayload())*time.Second/pullLinkRate,
	}
	if err := c.start(); err != nil {
		remove()
		return nil, fmt.Errorf("tail consumer: %w", err)
	}
	return c, nil
}

// consuming is what a consumer sends to a Tail.
type consuming struct {
	tail    *Tail
	ring    *ring
	cancel  context.CancelCauseFunc
	name    string // of the consumer
	remove  func() // deletes it
	sub     *nats.Subscription
	silence time.Duration // without a message or a heartbeat

	mu    sync.Mutex
	pull  pull
	quiet *time.Timer
	last  uint64 // sequence of the consumer's last message
	ended bool   // nothing counts any more
}

func (c *consuming) start() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sub, err = c.pull.nc.Subscribe(c.pull.inbox, c.handle); err != nil {
		return err
	}
	c.quiet = time.AfterFunc(c.silence, func() { c.cancel(fmt.Errorf("%w: %w", errAnew, errSilent)) })
	_ = c.sub.SetPendingLimits(-1, -1) // no more comes than what is asked for
	if err = c.pull.ask(); err != nil {
		c.end()
	}
	return err
}

// stop waits for the message that is being handled.
func (c *consuming) stop() {
	c.mu.Lock()
	c.end()
	c.mu.Unlock()
	c.remove() // best effort
}

// more asks the consumer whether it has messages that did not come yet.
func (c *consuming) more(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := c.tail.stream.js.Consumer(ctx, c.tail.stream.name, c.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		err = fmt.Errorf("%w: %w", errAnew, err)
	}
	if err != nil {
		return false, fmt.Errorf("tail consumer: %w", explain(err))
	}
	info := consumer.CachedInfo()
	c.mu.Lock()
	defer c.mu.Unlock()
	return info.NumPending > 0 || info.Delivered.Consumer > c.last, nil
}

func (c *consuming) end() {
	c.ended = true
	c.quiet.Stop()
	_ = c.sub.Unsubscribe()
}

func (c *consuming) handle(msg *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.quiet.Stop()
	if err := c.take(msg); err != nil {
		c.end()
		c.cancel(fmt.Errorf("%w: %w", errAnew, err))
		return
	}
	c.quiet.Reset(c.silence)
}

func (c *consuming) take(msg *nats.Msg) error {
	if msg.Reply == "" {
		return c.pull.status(msg)
	}
	m, at, ok := delivered(msg)
	if c.last++; !ok || at != c.last {
		return errors.New("a message is missing")
	}
	if msg.Header == nil && headerSize(msg) > 0 {
		c.tail.headerLog.Warn().Str("subject", m.Subject).Uint64("seq", m.Seq).
			Msg("header block cannot be read; delivered without its headers: correct the publisher")
	}
	c.tail.add(c.ring, &m)
	return c.pull.took(msg)
}

// pull keeps a consumer sending: more is asked for when half of the last request has come. One goroutine at a time uses it.
type pull struct {
	nc             *nats.Conn
	subject, inbox string
	window         int  // bytes of the next request
	pending        int  // bytes that were asked for, and may yet come
	came           bool // a message, since the last request
}

func (p *pull) ask() error {
	if p.pending > pullBytes/2 {
		return nil
	}
	request, _ := json.Marshal(pullRequest{Batch: pullMessages, MaxBytes: p.window, Expires: pullExpires, Heartbeat: pullHeartbeat})
	p.pending, p.came = p.pending+p.window, false
	return p.nc.PublishRequest(p.subject, p.inbox, request)
}

// took counts a message.
func (p *pull) took(msg *nats.Msg) error {
	p.pending -= msg.Size()
	p.window, p.came = pullBytes, true
	return p.ask()
}

// status reads a word of the server. Anything but the end of a request is an error, such as the consumer's deletion.
func (p *pull) status(msg *nats.Msg) error {
	code, text := msg.Header.Get("Status"), msg.Header.Get("Description")
	tooLarge := code == "409" && strings.Contains(text, "Exceeds MaxBytes")
	switch {
	case code == "100": // a heartbeat
		return nil
	case code == "408", tooLarge, code == "409" && text == "Batch Completed":
	default:
		return fmt.Errorf("status %s %s", code, text)
	}
	left, _ := strconv.Atoi(msg.Header.Get("Nats-Pending-Bytes"))
	p.pending -= left
	if tooLarge && p.pending <= 0 && !p.came {
		p.window *= 2 // the next message is larger than a request
	}
	return p.ask()
}

// readDelivered reads messages of a subject behind a seq as the Tail does, by a consumer that is made for it: the sequence and the time of
// a message are in its reply subject, whatever its headers are. It costs three requests, and one goes on at a time. If that is no way,
// such as at a limit of consumers, it asks the stream's leader for one message.
func (s *Stream) readDelivered(ctx context.Context, subject string, after uint64, batch, bytes int) ([]Message, error) {
	select {
	case s.delivering <- struct{}{}:
		defer func() { <-s.delivering }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	msgs, failed := s.deliver(ctx, subject, after, batch, bytes)
	if len(msgs) > 0 {
		return msgs, nil
	}
	m, found, err := s.leaderNext(ctx, subject, after)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, cmp.Or(failed, errNotProven) // a replica that lags, or the message was deleted meanwhile
	}
	return []Message{m}, nil
}

func (s *Stream) deliver(ctx context.Context, subject string, after uint64, batch, bytes int) (msgs []Message, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name, remove, err := s.createConsumer(ctx, "Tidings gateway: reads what other requests cannot", subject, after, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer remove()
	request := pullRequest{Batch: batch, MaxBytes: bytes + int(s.nc.MaxPayload()) + 64<<10, NoWait: true}
	get, err := s.askMany(s.nextSubject(name), request, batch)
	if err != nil {
		return nil, err
	}
	defer get.close()
	for expect := uint64(1); len(msgs) < batch; expect++ {
		msg, err := get.next(ctx)
		if err != nil || msg.Reply == "" { // all that there is, or all that fits
			return msgs, err
		}
		m, at, ok := delivered(msg)
		if !ok || at != expect {
			return msgs, errHole
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}
