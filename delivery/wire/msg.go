package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
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

// Bounds of a msg frame, which hold whatever was stored.
const (
	// MaxDepth is how many levels of arrays and objects data may have. The frame is one more, and the list of a user's notifications
	// two beyond that; parsers in wide use refuse more than 64 (System.Text.Json), 100 (Ruby) or 128 (serde_json) by default.
	MaxDepth = 60
	// MaxLabel is how many bytes of an id or kind a frame has; the rest is cut. Publishers of ours refuse a longer one.
	MaxLabel = 1024

	maxOverhead = 16 << 10 // all but the data: of an id and a kind each byte may take six
	shortText   = 1 << 10  // so much beyond twice its size a text may take as a string
)

// MaxMsg is how many bytes a msg frame has at most whose data has size bytes as stored.
func MaxMsg(size int) int { return 2*size + maxOverhead }

// AppendMsg appends a msg frame to dst, of at most MaxMsg(len(p.Data)) bytes. Data that is valid UTF-8 and valid JSON is embedded as it
// is, on one line, unless ContentType begins with "text/"; other UTF-8 becomes a JSON string in "data". Base64 in "data_b64" are anything
// else, JSON that is nested deeper than MaxDepth, and text that would take more than twice its size as a string: control characters take
// six bytes each.
func AppendMsg(dst []byte, p Payload) []byte {
	dst = append(dst, `{"type":"msg","seq":`...)
	dst = strconv.AppendUint(dst, p.Seq, 10)
	dst = appendField(dst, `,"id":`, clip(p.ID, MaxLabel))
	dst = appendField(dst, `,"kind":`, clip(p.Kind, MaxLabel))
	dst = append(dst, `,"time":"`...)
	dst = p.Time.UTC().AppendFormat(dst, TimeFormat)
	dst = append(dst, '"')
	dst = appendField(dst, `,"topic":`, p.Topic)
	switch formOf(p) {
	case embedded:
		dst = append(dst, `,"data":`...)
		dst = appendLine(dst, p.Data)
	case quoted:
		dst = append(dst, `,"data":`...)
		dst = appendString(dst, string(p.Data))
	case encoded:
		dst = append(dst, `,"data_b64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, p.Data)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// form is how data is put into a frame.
type form int

const (
	embedded form = iota
	quoted
	encoded
)

// readDepth is how many levels encoding/json reads: whether what has more is JSON, it does not say.
const readDepth = 10_000

func formOf(p Payload) form {
	if !utf8.Valid(p.Data) {
		return encoded
	}
	if !isText(p.ContentType) {
		switch depth := Depth(p.Data); {
		case depth > MaxDepth && (depth >= readDepth || json.Valid(p.Data)):
			return encoded
		case depth <= MaxDepth && json.Valid(p.Data):
			return embedded
		}
	}
	if quotedSize(p.Data) > 2*len(p.Data)+shortText {
		return encoded
	}
	return quoted
}

// Depth returns how many levels of arrays and objects JSON has, or a number up to MaxDepth that is not less.
func Depth(data []byte) (deepest int) {
	if opened := bytes.Count(data, []byte{'{'}) + bytes.Count(data, []byte{'['}); opened <= MaxDepth {
		return opened
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			i++
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// quotedSize is how many bytes appendString appends for valid UTF-8.
func quotedSize(data []byte) int {
	size := len(data) + 2
	for i, c := range data {
		switch {
		case c == '"', c == '\\', c == '\b', c == '\f', c == '\n', c == '\r', c == '\t':
			size++
		case c < ' ':
			size += 5
		case c == 0xe2 && (bytes.HasPrefix(data[i:], []byte("\u2028")) || bytes.HasPrefix(data[i:], []byte("\u2029"))):
			size += 3
		}
	}
	return size
}

// clip returns at most the first n bytes of s, and no part of a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := range utf8.UTFMax { // further back is no rune, only invalid bytes
		if utf8.RuneStart(s[n-back]) {
			return s[:n-back]
		}
	}
	return s[:n]
}

func isText(contentType string) bool {
	return len(contentType) >= 5 && strings.EqualFold(contentType[:5], "text/")
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
			buf := bytes.NewBuffer(dst)
			enc := json.NewEncoder(buf)
			enc.SetEscapeHTML(false) // no browser reads a frame as HTML, and < would take six bytes
			_ = enc.Encode(s)        // of a string never fails
			return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
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
