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

// Payload holds the values of a msg frame. The frame omits empty strings.
type Payload struct {
	Seq         uint64
	ID          string
	Kind        string
	Time        time.Time
	Topic       string
	ContentType string // with text/… Data is sent as a string even if it is valid JSON
	Data        []byte
}

// TimeFormat is the layout of times in frames: UTC, with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// Bounds of a msg frame. They hold whatever the stream contains.
const (
	// MaxDepth is the maximum number of levels of arrays and objects in data. The frame adds one
	// level, and a user's list of notifications adds two. Parsers in wide use refuse more than 64
	// (System.Text.Json), 100 (Ruby) or 128 levels (serde_json) by default.
	MaxDepth = 60
	// MaxLabel is the maximum number of bytes of an id or a kind in a frame; the rest is cut off.
	// Publishers of this module refuse longer ones.
	MaxLabel = 1024

	maxOverhead = 16 << 10 // everything but the data; each byte of an id or kind may need six bytes
	shortText   = 1 << 10  // a text as a JSON string may exceed twice its size by this many bytes
)

// MaxMsg returns the maximum size in bytes of a msg frame whose stored data has size bytes.
func MaxMsg(size int) int { return 2*size + maxOverhead }

// AppendMsg appends a msg frame of at most MaxMsg(len(p.Data)) bytes to dst.
//
// Data that is valid UTF-8 and valid JSON is embedded as it is, on one line, unless ContentType
// begins with "text/". Other UTF-8 becomes a JSON string in "data". All else becomes base64 in
// "data_b64": other bytes, JSON of more than MaxDepth levels, and text that needs more than twice
// its size plus 1 KiB as a JSON string, such as control characters, which need six bytes each.
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

// form is how a frame contains its data.
type form int

const (
	embedded form = iota
	quoted
	encoded
)

// readDepth is the number of levels that encoding/json reads. It cannot tell whether deeper data is
// valid JSON.
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

// Depth returns the number of levels of arrays and objects in JSON data. If that is at most
// MaxDepth, the result may be larger than it, but not larger than MaxDepth.
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

// quotedSize returns how many bytes appendString appends for valid UTF-8.
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

// clip returns the first n bytes of s, less if the cut would split a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := range utf8.UTFMax { // no rune is longer; then the bytes are invalid
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

// appendString appends a JSON string. It uses encoding/json only if a character needs escaping.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			buf := bytes.NewBuffer(dst)
			enc := json.NewEncoder(buf)
			enc.SetEscapeHTML(false) // no browser reads a frame as HTML, and < would need six bytes
			_ = enc.Encode(s)        // never fails for a string
			return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendLine appends valid JSON without line breaks, because a frame is also one line of SSE and of
// `listen --json`.
func appendLine(dst, data []byte) []byte {
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return append(dst, bytes.TrimSpace(data)...)
	}
	buf := bytes.NewBuffer(dst)
	_ = json.Compact(buf, data) // never fails for valid JSON
	return buf.Bytes()
}
