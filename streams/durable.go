package streams

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Metadata of a durable consumer.
const (
	metadataUser       = "user"
	metadataDevice     = "device"
	metadataTopicsFrom = "topics_from" // the stream's last seq when the cursor was made: the user's topics begin behind it
	metadataEpoch      = "epoch"       // what the position counts in
	metadataReset      = "reset"       // it was of another epoch, and made anew; until it moves past this seq its user is told
	metadataStale      = "stale"       // by the janitor: since when the position lies before the stream's first message
)

// ErrTooManyDevices is wrapped where a user has as many devices with cursors as are allowed.
var ErrTooManyDevices = errors.New("too many devices")

// ErrIncomplete is wrapped where cursors could not be read.
var ErrIncomplete = errors.New("no server answers for it (is a node of the cluster down? try again when it is back)")

// errNoCursor says that there is no durable consumer to move: nobody made it yet, or somebody removed it.
var errNoCursor = errors.New("no such cursor")

const (
	resetTimeout = time.Second // a reset of a consumer that is gone is never answered
	listTimeout  = 5 * time.Minute
)

// CursorState is a cursor as the stream holds it.
type CursorState struct {
	CursorID
	Seq        uint64    // committed: the user has acknowledged everything up to here
	Unread     uint64    // messages on the user's own subject behind Seq
	TopicsFrom uint64    // the user's topics begin behind this seq
	Epoch      string    // what Seq counts in
	Created    time.Time // of the consumer
	New        bool      // it was made just now
	Reset      bool      // it was of another epoch, and made anew; nobody has acknowledged anything since
	Over       bool      // of List and Find: it is of another epoch, and Seq and Unread say nothing about this stream
	name       string
	stale      string
}

// durables keeps cursors in durable consumers, one each: the ack floor is the position and the pending count the unread
// count, so that the NATS tools show both. Nobody ever pulls from them.
type durables struct {
	admitting chan struct{} // has room for one: new devices are admitted one at a time
	stream    *Stream
	replicas  int
	devices   int // a user's cursors with a device, at most
}

// read asks for a cursor: 0.1 to 0.2 ms of the server. The error wraps errNoCursor where there is none.
func (d *durables) read(ctx context.Context, id CursorID) (CursorState, error) {
	name, err := ConsumerName(id)
	if err != nil {
		return CursorState{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var consumer jetstream.Consumer
	err = d.stream.askAgain(ctx, func(ctx context.Context) error {
		consumer, err = d.stream.js.Consumer(ctx, d.stream.name, name)
		return err
	})
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return CursorState{}, fmt.Errorf("%w: %s", errNoCursor, id)
	}
	if err != nil {
		return CursorState{}, fmt.Errorf("cursor %s: %w", id, explain(err))
	}
	st := cursorState(consumer.CachedInfo())
	if st.CursorID != id {
		return CursorState{}, fmt.Errorf("consumer %s is not the cursor of %s, but of %q (remove it: nats consumer rm %s %s)",
			name, id, st.CursorID, d.stream.name, name)
	}
	return st, nil
}

// open reads a cursor, or makes it where there is none (about 1 ms of the server). One of another epoch than the mark's says
// nothing about this stream: it is made anew, at the beginning of what the stream holds.
func (d *durables) open(ctx context.Context, id CursorID, mark State, topicsFrom uint64) (CursorState, error) {
	for {
		st, err := d.read(ctx, id)
		switch {
		case err == nil && st.Epoch == mark.Epoch:
			st.Seq = min(st.Seq, mark.Last)
			return st, nil
		case err == nil:
			// Unless it is the mark that is out of date, and another gateway that has made the cursor anew.
			if now, err := d.stream.State(ctx); err != nil || now.Epoch != mark.Epoch {
				return CursorState{}, cmp.Or(err, ErrReplaced)
			}
			whole := context.WithoutCancel(ctx) // half of it would make a new user of this one
			if err := d.remove(whole, st); err != nil {
				return CursorState{}, err
			}
			// Repeats rather than a hole.
			anew := CursorState{CursorID: id, Epoch: mark.Epoch, TopicsFrom: mark.Before(), Reset: true}
			for st, err = d.create(whole, anew); errors.Is(err, errUnsound); {
				st, err = d.create(whole, anew)
			}
		case !errors.Is(err, errNoCursor):
			return CursorState{}, err
		case id.Device == "":
			st, err = d.create(ctx, CursorState{CursorID: id, Epoch: mark.Epoch, TopicsFrom: topicsFrom})
		default:
			st, err = d.createDevice(ctx, id, mark, topicsFrom)
		}
		if errors.Is(err, jetstream.ErrConsumerExists) {
			continue // another gateway was faster
		}
		st.New = true
		return st, err
	}
}

// createDevice makes the cursor of a new device, at the user's own position if there is one.
func (d *durables) createDevice(ctx context.Context, id CursorID, mark State, topicsFrom uint64) (CursorState, error) {
	leave, err := d.admit(ctx, id)
	if err != nil {
		return CursorState{}, err
	}
	defer leave()
	from := CursorState{CursorID: id, Epoch: mark.Epoch, TopicsFrom: topicsFrom}
	own, err := d.read(ctx, CursorID{User: id.User})
	switch {
	case err == nil && own.Epoch == mark.Epoch:
		from.Seq, from.TopicsFrom = own.Seq, own.TopicsFrom
	case err != nil && !errors.Is(err, errNoCursor):
		return CursorState{}, err
	}
	return d.create(ctx, from)
}

// create makes the consumer at from.Seq; a Seq of 0 is the beginning of what the stream holds.
func (d *durables) create(ctx context.Context, from CursorState) (CursorState, error) {
	name, err := ConsumerName(from.CursorID)
	if err != nil {
		return CursorState{}, err
	}
	subject, err := UserSubject(from.User)
	if err != nil {
		return CursorState{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		Durable:       name,
		Description:   fmt.Sprintf("Tidings: how far %q acknowledged", from.CursorID.String()),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckAllPolicy,
		FilterSubject: subject,
		Replicas:      d.replicas,
		Metadata: map[string]string{
			metadataUser:       from.User,
			metadataTopicsFrom: strconv.FormatUint(from.TopicsFrom, 10),
			metadataEpoch:      from.Epoch,
		},
	}
	if from.Device != "" {
		cfg.Metadata[metadataDevice] = from.Device
	}
	if from.Reset {
		cfg.Metadata[metadataReset] = cfg.Metadata[metadataTopicsFrom]
	}
	var consumer jetstream.Consumer
	err = d.stream.ask(ctx, func(ctx context.Context) error {
		consumer, err = d.stream.js.CreateConsumer(ctx, d.stream.name, cfg)
		return err
	})
	if err != nil {
		return CursorState{}, fmt.Errorf("cursor %s: %w", from.CursorID, explain(err))
	}
	st := cursorState(consumer.CachedInfo())
	if from.Seq > st.Seq {
		return d.reset(ctx, st, from.Seq)
	}
	return st, nil
}

// commit moves a cursor forward, and leaves one that is further alone. The error wraps errNoCursor where there is
// none, or only one of another epoch. The server offers no compare: of two commits at the same instant the lower may win,
// which costs repeats. Where sound no longer holds, nothing is moved.
func (d *durables) commit(ctx context.Context, to CursorState, sound func() bool) (st CursorState, moved bool, err error) {
	st, err = d.read(ctx, to.CursorID)
	switch {
	case err != nil:
		return CursorState{}, false, err
	case !sound():
		return CursorState{}, false, errUnsound
	case st.Epoch != to.Epoch:
		return CursorState{}, false, fmt.Errorf("%w: %s of epoch %s", errNoCursor, to.CursorID, to.Epoch)
	case st.Seq >= to.Seq:
		return st, false, nil
	}
	st, err = d.reset(ctx, st, to.Seq)
	return st, err == nil, err
}

// restore makes a cursor again where it was. Where it is there after all, it is moved.
func (d *durables) restore(ctx context.Context, to CursorState, sound func() bool) (st CursorState, moved bool, err error) {
	if !sound() {
		return CursorState{}, false, errUnsound
	}
	st, err = d.create(ctx, to)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return d.commit(ctx, to, sound)
	}
	return st, err == nil, err
}

func (d *durables) reset(ctx context.Context, st CursorState, seq uint64) (CursorState, error) {
	ctx, cancel := context.WithTimeout(ctx, resetTimeout)
	defer cancel()
	// The server does not clamp: a seq past the stream's end would skip what comes later. It never is, since only what was
	// read of the stream can be acknowledged.
	var reply *jetstream.ConsumerResetResponse
	err := d.stream.ask(ctx, func(ctx context.Context) (err error) {
		reply, err = d.stream.js.ResetConsumerToSequence(ctx, d.stream.name, st.name, seq+1)
		return err
	})
	if err != nil {
		return CursorState{}, fmt.Errorf("move cursor %s: %w", st.CursorID, err)
	}
	return cursorState(reply.ConsumerInfo), nil
}

func (d *durables) remove(ctx context.Context, st CursorState) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := d.stream.askAgain(ctx, func(ctx context.Context) error {
		return d.stream.js.DeleteConsumer(ctx, d.stream.name, st.name)
	})
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("remove cursor %s: %w", st.CursorID, explain(err))
	}
	return nil
}

// admit refuses a device more than the user may have. Until leave is called no other new device is admitted. It goes through the
// names of all consumers. Long names are hashed, and say nothing: for such a device all consumers are read, which is slow.
func (d *durables) admit(ctx context.Context, id CursorID) (leave func(), err error) {
	name, err := ConsumerName(id)
	if err != nil {
		return nil, err
	}
	select {
	case d.admitting <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	free := func() { <-d.admitting }
	defer func() {
		if err != nil {
			free()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	have := 0
	if strings.HasPrefix(name, hashedPrefix) {
		all, err := d.list(ctx, func(st CursorState) bool { return st.User == id.User && st.Device != "" })
		if err != nil {
			return nil, err
		}
		have = len(all)
	} else if have, err = d.countNames(ctx, name[:strings.IndexByte(name, '@')+1]); err != nil {
		return nil, err
	}
	if have >= d.devices {
		return nil, fmt.Errorf("%w: %s has %d (remove them with tidings users forget, or raise --max-devices)",
			ErrTooManyDevices, id.User, have)
	}
	return free, nil
}

// countNames counts the consumers whose names begin so.
func (d *durables) countNames(ctx context.Context, prefix string) (n int, err error) {
	stream, err := d.stream.js.Stream(ctx, d.stream.name)
	if err != nil {
		return 0, fmt.Errorf("list cursors: %w", explain(err))
	}
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	if err := names.Err(); err != nil {
		return 0, fmt.Errorf("list cursors: %w", explain(err))
	}
	return n, nil
}

// list returns the cursors that keep wants, in no order. Its cost grows with the square of all: 0.7 s for 3,000. The error wraps
// ErrIncomplete, beside those that could be read, where some could not.
func (d *durables) list(ctx context.Context, keep func(CursorState) bool) ([]CursorState, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var all []CursorState
	missing := 0
	for offset := 0; ; {
		page, err := d.page(ctx, offset)
		if err != nil {
			return nil, fmt.Errorf("list cursors: %w", explain(err))
		}
		for _, info := range page.Consumers {
			if info.Cluster != nil && info.Cluster.Leader == "" {
				continue // one of the missing: all but its position is known
			}
			if st := cursorState(info); st.User != "" && keep(st) {
				all = append(all, st)
			}
		}
		for _, name := range page.Missing {
			if strings.HasPrefix(name, namePrefix) {
				missing++
			}
		}
		if offset += page.Limit; page.Limit <= 0 || offset >= page.Total {
			break
		}
	}
	if missing > 0 {
		return all, fmt.Errorf("list cursors: %d of them: %w", missing, ErrIncomplete)
	}
	return all, nil
}

// cursorPage is a page of CONSUMER.LIST. nats.go drops what is missing.
type cursorPage struct {
	Error                *jetstream.APIError
	Total, Offset, Limit int
	Consumers            []*jetstream.ConsumerInfo
	Missing              []string // names of those for which no server answered
}

func (d *durables) page(ctx context.Context, offset int) (page cursorPage, err error) {
	err = d.stream.askAgain(ctx, func(ctx context.Context) error {
		request := fmt.Appendf(nil, `{"offset":%d}`, offset)
		msg, err := d.stream.nc.RequestWithContext(ctx, "$JS.API.CONSUMER.LIST."+d.stream.name, request)
		if err != nil {
			return err
		}
		return json.Unmarshal(msg.Data, &page)
	})
	if err == nil && page.Error != nil {
		err = page.Error
	}
	return page, err
}

func cursorState(info *jetstream.ConsumerInfo) CursorState {
	meta := info.Config.Metadata
	from, _ := strconv.ParseUint(meta[metadataTopicsFrom], 10, 64)
	reset, err := strconv.ParseUint(meta[metadataReset], 10, 64)
	return CursorState{
		CursorID:   CursorID{User: meta[metadataUser], Device: meta[metadataDevice]},
		Seq:        info.AckFloor.Stream,
		Unread:     info.NumPending,
		TopicsFrom: from,
		Epoch:      meta[metadataEpoch],
		Created:    info.Created,
		Reset:      err == nil && info.AckFloor.Stream <= reset,
		name:       info.Name,
		stale:      meta[metadataStale],
	}
}
