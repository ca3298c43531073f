package streams

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// An answer to a direct get has no reply subject, so that only its header block tells a stored message from a status of the server. The
// server appends its own lines to the publisher's block, and a publisher's block may be anything: it may end early, so that the server's
// lines are not read, and have lines of the same names, or be a status.

// answerKind is what one message of an answer to a direct get is.
type answerKind int

const (
	answerStatus  answerKind = iota // the server's: the end of a batch, nothing found, or an error
	answerMessage                   // a stored message, with the server's lines behind the publisher's
	answerUnclear                   // a stored message of which the header block does not tell enough
)

// serverLines is less than the bytes that the server appends to the header block of a message in a batch: at least 136, for a stream and
// a subject of one letter each.
const serverLines = 130

// kindOf reports what a message of an answer is. A header block that is longer than what was read of it, by as much as the server
// appends, may hide the server's lines. They are the last ones otherwise.
func (s *Stream) kindOf(msg *nats.Msg) answerKind {
	if msg.Header == nil || unread(msg) >= serverLines {
		return answerUnclear
	}
	if _, ok := serverNumber(msg.Header, jetstream.SequenceHeader); !ok {
		return answerStatus
	}
	// The server takes two bytes off the publisher's block, which need not be a line break: then its first line is part of the
	// publisher's last.
	first := jetstream.StreamHeader + ": " + s.name
	if serverValue(msg.Header, jetstream.StreamHeader) != s.name {
		return answerUnclear
	}
	for name, values := range msg.Header {
		for _, value := range values {
			if name != jetstream.StreamHeader && strings.HasSuffix(name+": "+value, first) {
				return answerUnclear
			}
		}
	}
	return answerMessage
}

// headerSize is how many bytes the header block had as it came.
func headerSize(msg *nats.Msg) int {
	return msg.Size() - len(msg.Subject) - len(msg.Reply) - len(msg.Data)
}

// unread is how many bytes of the header block may lie behind what nats.go has read of it, at most.
func unread(msg *nats.Msg) int {
	n := headerSize(msg) - len("NATS/1.0\n\n")
	for name, values := range msg.Header {
		for _, value := range values {
			n -= len(name) + len(value) + len(":\n")
		}
	}
	// nats.go makes headers of what follows NATS/1.0 in the first line.
	for _, name := range []string{"Status", "Description"} {
		if len(msg.Header.Values(name)) > 0 {
			n += len(name) + len(":\n")
		}
	}
	return n
}

// resolve asks the stream's leader for a message of a subject that an answer did not tell enough of. It is not found if it was deleted
// meanwhile.
func (s *Stream) resolve(ctx context.Context, subject string, seq uint64) (m Message, found bool, err error) {
	m, found, err = s.leaderNext(ctx, subject, seq-1)
	return m, found && m.Seq == seq, err
}
