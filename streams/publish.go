package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Errors of publishing.
var (
	// ErrTooLarge is wrapped if a notification is larger than the stream takes, or than the NATS server carries.
	ErrTooLarge = errors.New("notification too large")
	// ErrBadNotification is wrapped where an id, kind, TTL or content type cannot be sent.
	ErrBadNotification = errors.New("unusable notification")
	// ErrConflict is wrapped if the id was used within the duplicates window, for the same recipient, for a notification with other
	// data, kind or content type. Nothing is stored. If the two cannot be compared, the publisher gets a Receipt with Unchecked instead.
	ErrConflict = errors.New("the id is another notification's")
)

// Notification is what a backend tells a user.
type Notification struct {
	Data        []byte        // any bytes, also none; JSON of more than 60 levels reaches clients as bytes
	ID          string        // counts once per recipient within the duplicates window; empty: one is made
	Kind        string        // such as "order.shipped"
	ContentType string        // text/… keeps data a string that happens to be JSON
	TTL         time.Duration // at least 1 s; 0: as long as the stream keeps it
	Traceparent string        // W3C trace context

	sum string // its digest, if that is known
}

// Receipt says that the stream has stored a notification.
type Receipt struct {
	Seq       uint64
	ID        string
	Duplicate bool // a notification with this id was there already, with this sequence
	// Unchecked reports that a Duplicate was not compared with the stored notification, which may be another one. The publisher may
	// not read the stream, or the stored notification is gone or has no Tidings-Digest header.
	Unchecked bool
}

// Result is what became of a notification to one of many users.
type Result struct {
	User string
	Receipt
	Err error
}

// Publisher stores notifications. It is safe for concurrent use.
type Publisher struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	max int
	dst string

	unreadable atomic.Bool // NATS forbids to read the stream
}

// NewPublisher returns a publisher to the stream that Config names. It needs no right but to publish. With that to
// $JS.API.STREAM.MSG.GET.<stream> it finds an id that is used again for something else. Without it, the receipt of a repeated id is
// Unchecked, and NATS reports the missing right to the connection's error handler, once, when an id is repeated for the first time.
func NewPublisher(nc *nats.Conn, cfg Config) (*Publisher, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return &Publisher{
		nc:  nc,
		js:  js,
		max: cmp.Or(cfg.MaxNotification, DefaultMaxNotification),
		dst: cmp.Or(cfg.Name, DefaultName),
	}, nil
}

// Publisher returns a publisher to the stream.
func (s *Stream) Publisher() *Publisher {
	return &Publisher{nc: s.nc, js: s.js, max: s.MaxNotification(), dst: s.name}
}

// User stores a notification to one user and returns once the stream has acknowledged it. Where the answer is lost it tries
// again with the same id until ctx is done, so that it is stored once. Errors wrap ErrBadName, ErrTooLarge,
// ErrBadNotification, those of explain, or ctx's.
func (p *Publisher) User(ctx context.Context, user string, n Notification) (Receipt, error) {
	subject, err := UserSubject(user)
	if err != nil {
		return Receipt{}, err
	}
	return p.publish(ctx, subject, n)
}

// Topic stores a notification once, to be read by every user whose identity lists the topic.
func (p *Publisher) Topic(ctx context.Context, topic string, n Notification) (Receipt, error) {
	subject, err := TopicSubject(topic)
	if err != nil {
		return Receipt{}, err
	}
	return p.publish(ctx, subject, n)
}

// Users stores a notification to each of many users, 64 at a time. It returns one result per distinct user, in order.
func (p *Publisher) Users(ctx context.Context, users []string, n Notification) []Result {
	if n.ID == "" {
		n.ID = nuid.Next()
	}
	n.sum = n.digest() // once for all
	var results []Result
	seen := map[string]bool{}
	for _, user := range users {
		if !seen[user] {
			seen[user] = true
			results = append(results, Result{User: user})
		}
	}
	free := make(chan struct{}, 64)
	for i := range results {
		free <- struct{}{}
		go func() {
			defer func() { <-free }()
			r := &results[i]
			r.Receipt, r.Err = p.User(ctx, r.User, n)
		}()
	}
	for range cap(free) {
		free <- struct{}{}
	}
	return results
}

func (p *Publisher) publish(ctx context.Context, subject string, n Notification) (Receipt, error) {
	if n.ID == "" {
		n.ID = nuid.Next()
	}
	msg, err := p.message(subject, n)
	if err != nil {
		return Receipt{}, err
	}
	var failed error // the last that says why, rather than that the time was over
	for attempt := 0; ; attempt++ {
		receipt, err := p.try(ctx, msg, min(requestTimeout, time.Second<<min(attempt, 10)))
		if err == nil {
			receipt.ID = n.ID
			return receipt, nil
		}
		if failed == nil || ctx.Err() == nil {
			failed = err
		}
		if ctx.Err() != nil || !passing(err) {
			return Receipt{}, notPublished(ctx, subject, failed)
		}
		select { // the same id again; full jitter, at most 2 s
		case <-ctx.Done():
			return Receipt{}, notPublished(ctx, subject, failed)
		case <-time.After(rand.N(min(2*time.Second, 50*time.Millisecond<<min(attempt, 10)))):
		}
	}
}

// try publishes once, and waits for the acknowledgement. It returns a receipt without ID.
func (p *Publisher) try(ctx context.Context, msg *nats.Msg, within time.Duration) (Receipt, error) {
	if err := sendable(p.nc, msg); err != nil {
		return Receipt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ack, err := p.js.PublishMsg(ctx, msg)
	if err != nil {
		return Receipt{}, err
	}
	receipt := Receipt{Seq: ack.Sequence, Duplicate: ack.Duplicate}
	if ack.Duplicate {
		checked, err := p.checkDuplicate(ctx, msg, ack.Sequence)
		if err != nil {
			return Receipt{}, err
		}
		receipt.Unchecked = !checked
	}
	return receipt, nil
}

// sendable returns the error with which nats.go would refuse a request. It must be asked before each request of any size, since nats.go
// (1.55.0) keeps an entry for every request that it refuses itself, until the connection breaks.
func sendable(nc *nats.Conn, msg *nats.Msg) error {
	size, limit := int64(msg.Size()-len(msg.Subject)-len(msg.Reply)), nc.MaxPayload()
	if limit > 0 && size > limit { // 0: the server has not said yet
		return fmt.Errorf("%w: %d bytes with headers, the NATS server carries %d (send a reference instead, or raise its max_payload)",
			ErrTooLarge, size, limit)
	}
	if waiting, err := nc.Buffered(); err == nil && nc.IsReconnecting() && waiting >= nc.Opts.ReconnectBufSize {
		return nats.ErrReconnectBufExceeded
	}
	return nil
}

func notPublished(ctx context.Context, subject string, err error) error {
	if has(err, codeTooLarge) {
		err = fmt.Errorf("%w (its limit is that of --max-notification when it was made): %w", ErrTooLarge, err)
	}
	if err = explain(err); ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return fmt.Errorf("publish to %s: %w", subject, err)
}

// passing says whether a publish that failed so may succeed when it is tried again.
func passing(err error) bool {
	if Refusal(err) != "" {
		return false
	}
	for _, p := range []error{
		nats.ErrTimeout, context.DeadlineExceeded, nats.ErrNoResponders, jetstream.ErrNoStreamResponse,
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
	} {
		if errors.Is(err, p) {
			return true
		}
	}
	// A cluster between two leaders; and one that has not yet heard whether the try before was stored.
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 503 || has(err, codeInProcess)
}

// message checks a notification and puts it into NATS terms.
func (p *Publisher) message(subject string, n Notification) (*nats.Msg, error) {
	if len(n.Data) > p.max {
		return nil, fmt.Errorf("%w: %d bytes of data, the limit is %d (send a reference instead, or raise --max-notification)",
			ErrTooLarge, len(n.Data), p.max)
	}
	if n.TTL != 0 && n.TTL < time.Second {
		return nil, fmt.Errorf("%w: ttl %s: the least is 1s", ErrBadNotification, n.TTL)
	}
	if n.sum == "" {
		n.sum = n.digest()
	}
	msg := nats.NewMsg(subject)
	msg.Data = n.Data
	for _, h := range []struct{ what, name, value string }{
		{"id", jetstream.MsgIDHeader, n.ID},
		{"kind", HeaderKind, n.Kind},
		{"content type", HeaderContentType, n.ContentType},
		{"traceparent", HeaderTraceparent, n.Traceparent},
	} {
		if err := checkHeader(h.what, h.value); err != nil {
			return nil, err
		}
		if h.value != "" {
			msg.Header.Set(h.name, h.value)
		}
	}
	msg.Header.Set(jetstream.MsgIDHeader, idScope(subject)+n.ID)
	msg.Header.Set(jetstream.ExpectedStreamHeader, p.dst)
	msg.Header.Set(HeaderDigest, n.sum)
	if n.TTL > 0 {
		msg.Header.Set(jetstream.MsgTTLHeader, n.TTL.Truncate(time.Second).String())
	}
	return msg, nil
}

// checkHeader refuses what would not arrive as it is: NATS headers are lines, and lose spaces at their ends.
func checkHeader(what, value string) error {
	const most = 1024
	switch {
	case len(value) > most:
		return fmt.Errorf("%w: %s of %d bytes, the limit is %d", ErrBadNotification, what, len(value), most)
	case !utf8.ValidString(value):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrBadNotification, what)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: %s %q holds a control character", ErrBadNotification, what, value)
	case strings.TrimSpace(value) != value:
		return fmt.Errorf("%w: %s %q begins or ends with a space", ErrBadNotification, what, value)
	}
	return nil
}
