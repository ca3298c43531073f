package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidings-io/tidings/delivery/wire/strict"
)

// ErrBadFrame is wrapped by Decode where the bytes are not a frame.
var ErrBadFrame = errors.New("not a frame")

// Append appends the frame's JSON to dst. The field "type" leads, so that a reader can tell frames apart before it parses.
func Append(dst []byte, f Frame) []byte {
	body, err := json.Marshal(f)
	if err != nil { // the frames hold strings, numbers and, in Msg.Data alone, JSON that came in by Decode
		panic(fmt.Sprintf("wire: %s frame: %v", f.Type(), err))
	}
	dst = append(dst, `{"type":"`...)
	dst = append(dst, f.Type()...)
	dst = append(dst, '"')
	if len(body) > 2 {
		dst = append(dst, ',')
	}
	return append(dst, body[1:]...)
}

// decodeUsual parses what clients send all the time, as our own write it, at a twentieth of the cost; nil: it is something else.
func decodeUsual(data []byte) Frame {
	if string(data) == `{"type":"pong"}` {
		return Pong{}
	}
	digits, isAck := bytes.CutPrefix(data, []byte(`{"type":"ack","seq":`))
	digits, ends := bytes.CutSuffix(digits, []byte{'}'})
	if !isAck || !ends || len(digits) == 0 || digits[0] == '0' {
		return nil
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return nil
	}
	return Ack{Seq: seq}
}

// names are those of all fields that a frame can have.
var names = []string{
	"type", "protocol", "auth_within", "token", "device", "after", "epoch", "user", "conn", "unread", "ping", "expires_in", "next", "reason",
	"seq", "id", "kind", "time", "topic", "data", "data_b64", "in", "code", "message", "retry_after",
}

// Decode parses one frame of either side; the result is a value such as Ack, not a pointer. A type that it does not know
// gives nil and no error, and is to be ignored. A name that is there twice, or in other capital letters than it has, is an error. Errors wrap ErrBadFrame and never quote the frame, which may hold a token.
func Decode(data []byte) (Frame, error) {
	if f := decodeUsual(data); f != nil {
		return f, nil
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: invalid UTF-8", ErrBadFrame)
	}
	var head struct {
		Type *string `json:"type"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: send one JSON object with a field \"type\"", ErrBadFrame)
	}
	if err := strict.Names(data, names...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	if head.Type == nil {
		return nil, fmt.Errorf("%w: the field \"type\" is missing", ErrBadFrame)
	}
	switch *head.Type {
	case "hello":
		return decode[Hello](data)
	case "auth":
		return decode[Auth](data)
	case "ready":
		return decode[Ready](data)
	case "gap":
		return decode[Gap](data)
	case "msg":
		return decode[Msg](data)
	case "live":
		return decode[Live](data)
	case "ack":
		return decode[Ack](data)
	case "acked":
		return decode[Acked](data)
	case "ping":
		return decode[Ping](data)
	case "pong":
		return decode[Pong](data)
	case "renew":
		return decode[Renew](data)
	case "renewed":
		return decode[Renewed](data)
	case "expiring":
		return decode[Expiring](data)
	case "error":
		return decode[Error](data)
	case "goaway":
		return decode[Goaway](data)
	}
	return nil, nil
}

func decode[F Frame](data []byte) (Frame, error) {
	var f F
	if err := json.Unmarshal(data, &f); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			kind, _, _ := strings.Cut(wrong.Value, " ") // "number -5" would quote the frame
			return nil, fmt.Errorf("%w: %s: field %q cannot be this %s", ErrBadFrame, f.Type(), wrong.Field, kind)
		}
		return nil, fmt.Errorf("%w: %s", ErrBadFrame, f.Type())
	}
	return f, nil
}
