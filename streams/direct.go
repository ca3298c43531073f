package streams

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	coldBatch = 200 // messages in one request
	// quietFor is without a message of an answer until the server is asked whether it is still there, and from then on until the
	// answer is given up.
	quietFor = requestTimeout / 2
	// linkTimeout is without any message, nor the server's word that it is there.
	linkTimeout = 30 * time.Second
)

// Headers of an answer's end.
const (
	headerPending = "Nats-Num-Pending"
	headerUpTo    = "Nats-UpTo-Sequence"
)

// errHole says that a message of an answer did not arrive.
var errHole = errors.New("the answer has a hole")

// errNoDirect is why nobody answers a direct get of a stream that answers otherwise.
var errNoDirect = errors.New("direct access of the stream is off; the gateway puts it back")

// readAfter reads up to batch messages of the subject behind a seq, by $JS.API.DIRECT.GET (ADR-31), which any replica answers.
// Each message says which one went before it, so that there is no hole among them. More says that the server has, or may
// have, others behind those: what came before the answer broke off is good, since all that is on its way is on the way in vain
// if it is asked for once more. There is an error only where nothing came.
func (s *Stream) readAfter(ctx context.Context, subject string, after uint64, batch int) (msgs []Message, more bool, err error) {
	defer func() {
		if len(msgs) > 0 && err != nil {
			more, err = true, nil
		}
		if err != nil {
			err = fmt.Errorf("cold read: %w", s.explainDirect(ctx, err))
		}
	}()
	defer s.pace.turn()()
	share := min(batch, coldBatch) // less where what comes of many subjects is held at once
	batch, bytes := s.pace.limits(batch)
	bytes = max(paceLeast, bytes*share/coldBatch)
	get, err := s.directGet(map[string]any{"seq": after + 1, "next_by_subj": subject, "batch": batch, "max_bytes": bytes}, batch)
	if err != nil {
		return nil, false, err
	}
	defer get.close()
	asked, first := time.Now(), time.Time{}
	for last, size := uint64(0), 0; ; {
		msg, err := get.next(ctx)
		if err != nil {
			s.pace.slower()
			return msgs, false, err
		}
		before, _ := serverNumber(msg.Header, jetstream.LastSequenceHeader)
		switch s.kindOf(msg) {
		case answerUnclear:
			get.close() // the rest of it is of no use
			rest, err := s.readDelivered(ctx, subject, max(after, last), batch-len(msgs), bytes)
			return append(msgs, rest...), true, err
		case answerMessage:
			if before != last {
				return msgs, false, errHole
			}
			seq, _ := serverNumber(msg.Header, jetstream.SequenceHeader)
			m, err := fromDirect(seq, msg)
			if err != nil {
				return msgs, false, err
			}
			if len(msgs) == 0 {
				first = time.Now()
			}
			msgs, last, size = append(msgs, m), seq, size+msg.Size()
			continue
		}
		switch status := msg.Header.Get("Status"); {
		case status == "204" && before != last:
			return msgs, false, errHole
		case status == "204": // the end of the batch
			pending, _ := serverNumber(msg.Header, headerPending)
			if pending > 0 && len(msgs) == 0 {
				return nil, false, errHole
			}
			switch len(msgs) {
			case 0:
			case 1: // which says nothing of its own time
				s.pace.took(time.Since(asked), size >= bytes)
			default:
				s.pace.took(time.Since(first), len(msgs) == batch || size >= bytes)
			}
			return msgs, pending > 0, nil
		default:
			return msgs, false, statusError(msg, "404")
		}
	}
}

// statusError is nil for the status that is expected, which is the server's.
func statusError(msg *nats.Msg, expected string) error {
	switch status := msg.Header.Get("Status"); status {
	case expected:
		return nil
	case "503":
		return nats.ErrNoResponders
	default:
		return fmt.Errorf("status %s %s", status, msg.Header.Get("Description"))
	}
}

// vouch asks some replica, whichever answers, how far it is and whether it has more of the subject behind a seq: one look at its
// store, by a multi-get of the last messages (ADR-31). It answers only if it has anything of the subject, or of the one beside it.
func (s *Stream) vouch(ctx context.Context, subject string, after uint64, beside string) (upTo uint64, more bool, err error) {
	subjects := []string{subject}
	if beside != subject {
		subjects = append(subjects, beside)
	}
	get, err := s.directGet(map[string]any{"multi_last": subjects, "seq": after + 1}, len(subjects))
	if err != nil {
		return 0, false, fmt.Errorf("last messages: %w", err)
	}
	defer get.close()
	for messages, unclear := 0, 0; ; messages++ {
		msg, err := get.next(ctx)
		if err != nil {
			return 0, false, fmt.Errorf("last messages: %w", explain(err))
		}
		switch s.kindOf(msg) {
		case answerMessage:
			more = more || serverValue(msg.Header, jetstream.SubjectHeader) == subject
			continue
		case answerUnclear:
			unclear++
			continue
		}
		if msg.Header.Get("Status") != "204" {
			return 0, false, cmp.Or(statusError(msg, "404"), errNotProven)
		}
		upTo, ok := serverNumber(msg.Header, headerUpTo)
		if pending, _ := serverNumber(msg.Header, headerPending); !ok || pending > 0 {
			return 0, false, errNotProven
		}
		switch last, _ := serverNumber(msg.Header, jetstream.LastSequenceHeader); {
		case messages > 1: // one of each subject
			more = true
		case unclear > 0:
			m, found, err := s.resolve(ctx, ">", last)
			if err != nil || !found {
				return 0, false, cmp.Or(err, errNotProven)
			}
			more = m.Subject == subject
		}
		return upTo, more, nil
	}
}

// answers are the many messages of one answer.
type answers struct {
	nc     *nats.Conn
	sub    *nats.Subscription
	come   chan *nats.Msg
	broken chan nats.Status
}

func (s *Stream) directGet(what map[string]any, batch int) (*answers, error) {
	return s.askMany("$JS.API.DIRECT.GET."+s.name, what, batch)
}

// askMany makes a request whose answer is up to batch messages and one more.
func (s *Stream) askMany(subject string, what any, batch int) (*answers, error) {
	request, _ := json.Marshal(what)
	d := &answers{nc: s.nc, come: make(chan *nats.Msg, batch+1)}
	inbox := s.nc.NewInbox()
	var err error
	if d.sub, err = s.nc.ChanSubscribe(inbox, d.come); err != nil {
		return nil, err
	}
	d.broken = s.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED)
	if err = s.nc.PublishRequest(subject, inbox, request); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *answers) close() {
	_ = d.sub.Unsubscribe()
	d.nc.RemoveStatusListener(d.broken)
}

// next waits for as long as there is a server at the other end, and a link on which something moves: of a large message nothing is
// seen before all of it has come.
func (d *answers) next(ctx context.Context) (*nats.Msg, error) {
	select {
	case msg := <-d.come:
		return msg, nil
	default:
	}
	for asked := false; ; asked = true {
		select {
		case msg := <-d.come:
			return msg, nil
		case <-d.broken:
			return nil, errUnsound
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(quietFor):
		}
		if asked {
			return nil, context.DeadlineExceeded
		}
		if err := flush(ctx, d.nc); err != nil {
			return nil, err
		}
	}
}

// flush returns once all that the server had sent is here: its answer to a ping comes behind that.
func flush(ctx context.Context, nc *nats.Conn) error {
	for {
		before := nc.Stats().InMsgs
		try, cancel := context.WithTimeout(ctx, linkTimeout)
		err := nc.FlushWithContext(try)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || nc.Stats().InMsgs == before {
			return err
		}
	}
}

// pace is how much to ask for at once. What is on its way holds up everything else on the connection, such as the state of the
// stream without which it is no use; and it is lost with the connection.
type pace struct {
	bytes  atomic.Int64
	slowed atomic.Int64 // when an answer was last slow, in ns since 1970
	slow   sync.Mutex   // over a slow link, of one request at a time
}

const (
	paceMost  = 4 << 20 // the server answers within its read loop, so that it should be short
	paceFirst = 256 << 10
	paceLeast = 4 << 10 // a message comes whole, however large

	paceSlow = 500 * time.Millisecond // from the first message of an answer to the last; some answers are on their way at once
	paceFast = 100 * time.Millisecond
	// paceForget is without a slow answer until it is as if there had been none: small answers do not tell how fast a link is.
	paceForget = 30 * time.Second

	paceEach = 512 // bytes that a message takes at least, headers of the server included
)

// turn waits for the others where the link is slow: together they would hold up even the pings by which it is seen to live.
func (p *pace) turn() (over func()) {
	if p.now() >= paceFirst {
		return func() {}
	}
	p.slow.Lock()
	return p.slow.Unlock
}

func (p *pace) limits(batch int) (messages, bytes int) {
	bytes = int(p.now())
	return max(1, min(batch, bytes/paceEach)), bytes
}

func (p *pace) now() int64 {
	n := p.bytes.Load()
	if n == 0 || n < paceFirst && time.Now().UnixNano()-p.slowed.Load() > int64(paceForget) {
		return paceFirst
	}
	return n
}

// took notes how long an answer took. One that was not as large as it might have been says little.
func (p *pace) took(d time.Duration, full bool) {
	switch {
	case d > paceSlow:
		p.slower()
	case d < paceFast && full:
		p.bytes.Store(min(paceMost, 2*p.now()))
	}
}

func (p *pace) slower() {
	p.bytes.Store(max(paceLeast, p.now()/2))
	p.slowed.Store(time.Now().UnixNano())
}
