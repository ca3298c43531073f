package streams

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// HeaderDigest tells apart two notifications that were published with one id.
const HeaderDigest = "Tidings-Digest"

// digest covers what a client is shown: data, kind and content type. A TTL may be what is left of one, and differ when the same is
// published again. 128 bits are enough: a publisher could deceive nobody but itself.
func (n *Notification) digest() string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(n.Kind), []byte(n.ContentType), n.Data} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // a hash takes anything
		_, _ = h.Write(part)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// checkDuplicate compares a message with the one that was stored before with its id. It returns an error that wraps ErrConflict if
// they differ, and false if they cannot be compared: the original is gone or has no digest, or this NATS user may not read the stream.
func (p *Publisher) checkDuplicate(ctx context.Context, msg *nats.Msg, seq uint64) (checked bool, err error) {
	original, err := p.headerAt(ctx, seq)
	if err != nil {
		return false, fmt.Errorf("the id was used at seq %d; reading that: %w", seq, err)
	}
	id, was := msg.Header.Get(jetstream.MsgIDHeader), original.Get(HeaderDigest)
	if original.Get(jetstream.MsgIDHeader) != id || was == "" {
		return false, nil
	}
	if was == msg.Header.Get(HeaderDigest) {
		return true, nil
	}
	return false, fmt.Errorf("%w: %.100q, at seq %d (publish with an id of its own; the same id is for the same data, kind and content type)",
		ErrConflict, strings.TrimPrefix(id, idScope(msg.Subject)), seq)
}

// headerAt asks the stream's leader for the header of a message; nil: there is none that can be read.
func (p *Publisher) headerAt(ctx context.Context, seq uint64) (nats.Header, error) {
	if p.unreadable.Load() || seq == 0 {
		return nil, nil
	}
	subject, inbox := "$JS.API.STREAM.MSG.GET."+p.dst, p.nc.NewInbox()
	sub, err := p.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := p.nc.PublishRequest(subject, inbox, fmt.Appendf(nil, `{"seq":%d}`, seq)); err != nil {
		return nil, err
	}
	// A server that forbids the request reports it before it answers the flush, and sends no other answer.
	if err := p.nc.FlushWithContext(ctx); err != nil {
		return nil, err
	}
	if err := p.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`) {
		p.unreadable.Store(true)
		return nil, nil
	}
	answer, err := sub.NextMsgWithContext(ctx)
	if errors.Is(err, nats.ErrNoResponders) { // such as an account that imports the subjects alone
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var reply getReply
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return nil, err
	}
	if reply.Error != nil && has(reply.Error, codeNoCluster, codeStreamOffline) { // others, such as an account without JetStream, do not pass
		return nil, reply.Error
	}
	return reply.header(), nil
}
