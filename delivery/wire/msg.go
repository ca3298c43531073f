package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Payload is what a msg frame is made of. Empty strings are left out of the frame.
type Payload struct {
	Seq         uint64
	ID          string
	Kind        string
	Time        time.Time
	Topic       string
	ContentType string // text/… keeps Data a string even where it happens to be JSON
	Data        []byte
}

// TimeFormat is the layout of times in frames: UTC, to the millisecond.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// AppendMsg appends a msg frame to dst. Data that is valid UTF-8 and valid JSON is embedded as it is, on one line, unless
// ContentType begins with "text/" or it is nested too deep to be read; other UTF-8 becomes a JSON string in "data";
// anything else base64 in "data_b64".
func AppendMsg(dst []byte, p Payload) []byte {
	dst = append(dst, `{"type":"msg","seq":`...)
	dst = strconv.AppendUint(dst, p.Seq, 10)
	dst = appendField(dst, `,"id":`, p.ID)
	dst = appendField(dst, `,"kind":`, p.Kind)
	dst = append(dst, `,"time":"`...)
	dst = p.Time.UTC().AppendFormat(dst, TimeFormat)
	dst = append(dst, '"')
	dst = appendField(dst, `,"topic":`, p.Topic)
	switch {
	case !utf8.Valid(p.Data):
		dst = append(dst, `,"data_b64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, p.Data)
		dst = append(dst, '"')
	case isText(p.ContentType) || !embeddable(p.Data):
		dst = append(dst, `,"data":`...)
		dst = appendString(dst, string(p.Data))
	default:
		dst = append(dst, `,"data":`...)
		dst = appendLine(dst, p.Data)
	}
	return append(dst, '}')
}

func isText(contentType string) bool {
	return len(contentType) >= 5 && strings.EqualFold(contentType[:5], "text/")
}

// maxDepth is how many levels of nesting encoding/json reads; the frame itself is one of them.
const maxDepth = 10_000

// embeddable says whether data is JSON that stays readable inside of a frame.
func embeddable(data []byte) bool {
	if !json.Valid(data) {
		return false
	}
	if bytes.Count(data, []byte{'{'})+bytes.Count(data, []byte{'['}) < maxDepth {
		return true
	}
	return json.Valid(slices.Concat([]byte{'['}, data, []byte{']'}))
}

func appendField(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, key...), value)
}

// appendString appends a JSON string, by encoding/json only where something needs escaping.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // of a string never fails
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendLine appends valid JSON without line breaks, since a frame is also one line of SSE and of `listen --json`.
func appendLine(dst, data []byte) []byte {
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return append(dst, bytes.TrimSpace(data)...)
	}
	buf := bytes.NewBuffer(dst)
	_ = json.Compact(buf, data) // of valid JSON never fails
	return buf.Bytes()
}
