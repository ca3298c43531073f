package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of one request of a cold read. The server answers it within its read loop, so that it should be short.
const (
	coldBatch = 200
	coldBytes = 4 << 20
)

const headerPending = "Nats-Num-Pending"

// errHole says that a message of an answer did not arrive.
var errHole = errors.New("cold read: the answer has a hole")

// readAfter reads up to batch messages of the subject behind a seq, by $JS.API.DIRECT.GET (ADR-31), which any replica answers.
// Each message says which one went before it, so that there is no hole among them. More says that the server has, or may
// have, others behind those.
func (s *Stream) readAfter(ctx context.Context, subject string, after uint64, batch int) (msgs []Message, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, _ := json.Marshal(map[string]any{
		"seq": after + 1, "next_by_subj": subject, "batch": batch, "max_bytes": coldBytes,
	})
	inbox := s.nc.NewInbox()
	answers := make(chan *nats.Msg, batch+1)
	sub, err := s.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, false, fmt.Errorf("cold read: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+s.name, inbox, request); err != nil {
		return nil, false, fmt.Errorf("cold read: %w", err)
	}
	broken := s.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED)
	defer s.nc.RemoveStatusListener(broken)
	last := uint64(0)
	for {
		var msg *nats.Msg
		select {
		case msg = <-answers:
		case <-broken:
			return nil, false, errHole
		case <-ctx.Done():
			return nil, false, fmt.Errorf("cold read: %w", explain(ctx.Err()))
		}
		before, _ := serverNumber(msg.Header, jetstream.LastSequenceHeader)
		if seq, ok := serverNumber(msg.Header, jetstream.SequenceHeader); ok {
			if before != last {
				return nil, false, errHole
			}
			m, err := fromDirect(seq, msg)
			if err != nil {
				return nil, false, err
			}
			msgs, last = append(msgs, m), seq
			continue
		}
		switch status := msg.Header.Get("Status"); {
		case status == "204" && before != last:
			return nil, false, errHole
		case status == "204": // the end of the batch
			pending, _ := serverNumber(msg.Header, headerPending)
			if pending > 0 && len(msgs) == 0 {
				return nil, false, errHole
			}
			return msgs, pending > 0, nil
		case status == "404":
			return nil, false, nil
		case status == "503":
			return nil, false, fmt.Errorf("cold read: %w", explain(nats.ErrNoResponders))
		default:
			return nil, false, fmt.Errorf("cold read: status %s %s", status, msg.Header.Get("Description"))
		}
	}
}

// firstSince asks the stream's leader for the first message that was stored at the time or later.
func (s *Stream) firstSince(ctx context.Context, when time.Time) (seq uint64, found bool, err error) {
	m, found, err := s.leaderGet(ctx, map[string]any{"start_time": when.UTC(), "next_by_subj": ">"})
	return m.Seq, found, err
}

// leaderNext asks the stream's leader for the next message of the subject behind a seq.
func (s *Stream) leaderNext(ctx context.Context, subject string, after uint64) (m Message, found bool, err error) {
	return s.leaderGet(ctx, map[string]any{"seq": after + 1, "next_by_subj": subject})
}

// leaderGet asks by $JS.API.STREAM.MSG.GET. That nothing is found is proven: a server that is stopping says so too, of a store that
// is closed, but then the stream no longer answers over the same connection.
func (s *Stream) leaderGet(ctx context.Context, what map[string]any) (m Message, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, _ := json.Marshal(what)
	reconnects := s.nc.Stats().Reconnects
	msg, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+s.name, request)
	if err != nil {
		return Message{}, false, fmt.Errorf("get message: %w", explain(err))
	}
	var reply struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return Message{}, false, fmt.Errorf("get message: %w", err)
	}
	switch {
	case reply.Error == nil:
		got := reply.Message
		header, _ := nats.DecodeHeadersMsg(got.Header) // one that is no header is as good as none
		return newMessage(got.Seq, got.Subject, got.Time, header, got.Data), true, nil
	case reply.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		if _, err := s.info(ctx); err != nil {
			return Message{}, false, fmt.Errorf("get message: %w", explain(err))
		}
		if s.nc.Stats().Reconnects != reconnects {
			return Message{}, false, errNotProven
		}
		return Message{}, false, nil
	}
	return Message{}, false, fmt.Errorf("get message: %w", reply.Error)
}
