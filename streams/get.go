package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// getReply is the answer to $JS.API.STREAM.MSG.GET.
type getReply struct {
	Error   *jetstream.APIError `json:"error"`
	Message struct {
		Subject string    `json:"subject"`
		Seq     uint64    `json:"seq"`
		Header  []byte    `json:"hdrs"`
		Data    []byte    `json:"data"`
		Time    time.Time `json:"time"`
	} `json:"message"`
}

// header returns the publisher's header. A block that nats.go cannot parse counts as none.
func (r *getReply) header() nats.Header {
	header, _ := nats.DecodeHeadersMsg(r.Message.Header)
	return header
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
	var reply getReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return Message{}, false, fmt.Errorf("get message: %w", err)
	}
	switch {
	case reply.Error == nil:
		got := reply.Message
		return newMessage(got.Seq, got.Subject, got.Time, reply.header(), got.Data), true, nil
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
