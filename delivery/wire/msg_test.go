package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tidings-io/tidings/delivery/wire"
)

func TestAppendMsgData(t *testing.T) {
	b64 := func(data string) string { return base64.StdEncoding.EncodeToString([]byte(data)) }
	deep := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
	for name, c := range map[string]struct{ contentType, data, want string }{
		"object":              {"", `{"a":1}`, `"data":{"a":1}`},
		"order and spaces":    {"", `{"b": 1, "a" :2}`, `"data":{"b": 1, "a" :2}`},
		"large number":        {"", `12345678901234567890.10`, `"data":12345678901234567890.10`},
		"null":                {"", `null`, `"data":null`},
		"JSON string":         {"", `"a<b\u00e9"`, `"data":"a<b\u00e9"`},
		"space around":        {"", " \t{}  ", `"data":{}`},
		"pretty-printed":      {"", "{\r\n\t\"a b\": [\n1,\n2\n]\n}\n", `"data":{"a b":[1,2]}`},
		"line separator":      {"", "\"\u2028\"", "\"data\":\"\u2028\""},
		"lone surrogate":      {"", `"\ud800"`, `"data":"\ud800"`},
		"empty":               {"", "", `"data":""`},
		"only space":          {"", " ", `"data":" "`},
		"text":                {"", "hello", `"data":"hello"`},
		"text, control":       {"", "a\x00\r\n\"\\b", `"data":"a\u0000\r\n\"\\b"`},
		"text, emoji":         {"", "ok 👍", `"data":"ok 👍"`},
		"invalid JSON":        {"application/json", `{"a":1`, `"data":"{\"a\":1"`},
		"two JSON values":     {"application/json", `{}{}`, `"data":"{}{}"`},
		"byte order mark":     {"", "\ufeff{}", "\"data\":\"\ufeff{}\""},
		"text/plain JSON":     {"text/plain", `{"a":1}`, `"data":"{\"a\":1}"`},
		"TEXT/Html number":    {"TEXT/Html; charset=utf-8", `7`, `"data":"7"`},
		"textual is no text":  {"textual/json", `7`, `"data":7`},
		"text is no text/":    {"text", `7`, `"data":7`},
		"binary":              {"", "\x00\xff", `"data_b64":"AP8="`},
		"binary text":         {"text/plain", "gr\xfc\xdfe", `"data_b64":"Z3L832U="`},
		"JSON, bad UTF-8":     {"application/json", "{\"a\":\"\xff\"}", `"data_b64":"eyJhIjoi/yJ9"`},
		"text of HTML":        {"", "<b>ü</b>", `"data":"<b>ü</b>"`},
		"deep":                {"", deep(wire.MaxDepth), `"data":` + deep(wire.MaxDepth)},
		"deep, wide":          {"", "[" + deep(wire.MaxDepth-1) + strings.Repeat(",[]", 100) + `,"[[\\\"["]`, `"data":[` + deep(wire.MaxDepth-1) + strings.Repeat(",[]", 100) + `,"[[\\\"["]`},
		"too deep":            {"", deep(wire.MaxDepth + 1), `"data_b64":"` + b64(deep(wire.MaxDepth+1)) + `"`},
		"objects, too deep":   {"", strings.Repeat(`{"a":`, 61) + "1" + strings.Repeat("}", 61), `"data_b64":"` + b64(strings.Repeat(`{"a":`, 61)+"1"+strings.Repeat("}", 61)) + `"`},
		"much too deep":       {"", deep(9_998), `"data_b64":"` + b64(deep(9_998)) + `"`},
		"deeper than read":    {"", deep(20_000), `"data_b64":"` + b64(deep(20_000)) + `"`},
		"text/plain, deep":    {"text/plain", deep(61), `"data":"` + deep(61) + `"`},
		"deep, not closed":    {"", strings.Repeat("[", 61), `"data":"` + strings.Repeat("[", 61) + `"`},
		"line breaks":         {"", strings.Repeat("\n", 9_999), `"data":"` + strings.Repeat(`\n`, 9_999) + `"`},
		"short, control":      {"", strings.Repeat("\x01", 250), `"data":"` + strings.Repeat(`\u0001`, 250) + `"`},
		"control":             {"", strings.Repeat("\x01", 1000), `"data_b64":"` + b64(strings.Repeat("\x01", 1000)) + `"`},
		"text/plain, control": {"text/plain", strings.Repeat("\x7f\x00", 1000), `"data_b64":"` + b64(strings.Repeat("\x7f\x00", 1000)) + `"`},
		"wide, not deep":      {"", "[" + strings.Repeat("{},", 20_000) + "0]", `"data":[` + strings.Repeat("{},", 20_000) + "0]"},
	} {
		t.Run(name, func(t *testing.T) {
			frame := wire.AppendMsg(nil, wire.Payload{Seq: 7, Time: sentAt, ContentType: c.contentType, Data: []byte(c.data)})
			want := `{"type":"msg","seq":7,"time":"2026-11-22T17:55:19.123Z",` + c.want + `}`
			if string(frame) != want {
				t.Fatalf("AppendMsg =\n%.200s\nwant\n%.200s", frame, want)
			}
			if _, err := wire.Decode(frame); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAppendMsgQuotes(t *testing.T) {
	for _, name := range []string{"plain", `a"b`, `a\b`, "a\r\nb", "x\x00y", "👍 ünï", "\x7f", "<script>", "\u2028", " "} {
		frame := wire.AppendMsg(nil, wire.Payload{Seq: 7, ID: name, Kind: name, Topic: name, Time: sentAt})
		if bytes.ContainsAny(frame, "\r\n") {
			t.Errorf("%q: the frame has a line break: %s", name, frame)
		}
		got, err := wire.Decode(frame)
		if msg, _ := got.(wire.Msg); err != nil || msg.ID != name || msg.Kind != name || msg.Topic != name {
			t.Errorf("%q decodes as %#v, %v", name, got, err)
		}
	}
	frame := wire.AppendMsg(nil, wire.Payload{Seq: 7, ID: "a\xffb", Time: sentAt})
	if got, err := wire.Decode(frame); err != nil || got.(wire.Msg).ID != "a\ufffdb" {
		t.Errorf("an invalid id decodes as %#v, %v", got, err)
	}
}

func TestAppendMsgTime(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	for want, at := range map[string]time.Time{
		"2026-11-22T17:55:19.000Z": time.Date(2026, 11, 22, 18, 55, 19, 0, berlin),
		"2026-12-31T23:59:59.999Z": time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		"0001-01-01T00:00:00.000Z": {},
	} {
		if frame := wire.AppendMsg(nil, wire.Payload{Time: at}); !bytes.Contains(frame, []byte(`"time":"`+want+`"`)) {
			t.Errorf("%v is encoded as %s", at, frame)
		}
	}
}

func FuzzAppendMsg(f *testing.F) {
	for _, p := range goldenMsgs {
		f.Add(p.Seq, p.ID, p.Kind, p.Topic, p.ContentType, p.Data)
	}
	f.Add(uint64(1), "\xff", "a\r\nb", "👍", "TEXT/x", []byte(" {\n} "))
	f.Add(uint64(1), strings.Repeat("\xff", 2000), strings.Repeat("👍", 300), strings.Repeat("\x01", 200), "text/plain", bytes.Repeat([]byte{1}, 2000))
	f.Add(uint64(1), strings.Repeat("\x80", 2000), strings.Repeat("x", 1023)+"é", "", "", []byte(nil))
	f.Add(uint64(1), "", "", "", "", []byte(strings.Repeat("[", 61)+strings.Repeat("]", 61)))
	f.Add(uint64(1), "", "", "", "", []byte(strings.Repeat(`\u2028<&"`, 500)))
	f.Add(uint64(1), "", "", "", "", []byte(strings.Repeat("\"", 2000)+"\x00"))
	f.Add(uint64(1<<63), "", "", "", "", []byte("{\"a\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, seq uint64, id, kind, topic, contentType string, data []byte) {
		frame := wire.AppendMsg(nil, wire.Payload{
			Seq: seq, ID: id, Kind: kind, Time: sentAt, Topic: topic, ContentType: contentType, Data: data,
		})
		if !json.Valid(frame) || !utf8.Valid(frame) || bytes.ContainsAny(frame, "\r\n") {
			t.Fatalf("not JSON on one line: %q", frame)
		}
		if len(topic) <= 200 && len(frame) > wire.MaxMsg(len(data)) {
			t.Fatalf("%d bytes of data make a frame of %d bytes", len(data), len(frame))
		}
		decoded, err := wire.Decode(frame)
		if err != nil {
			t.Fatal(err)
		}
		msg := decoded.(wire.Msg)
		name := func(s string) string { return string([]rune(s)) } // invalid bytes become U+FFFD, one by one
		label := func(s, have string) bool {
			return have == name(s) || len(s) > wire.MaxLabel && len(have) > 0 && strings.HasPrefix(name(s), have)
		}
		if msg.Seq != seq || !label(id, msg.ID) || !label(kind, msg.Kind) || msg.Topic != name(topic) {
			t.Fatalf("the frame decodes as %#v", msg)
		}
		var text string
		switch {
		case !utf8.Valid(data) || msg.DataB64 != nil:
			text := len(data) > 0 && quoted(data) > 2*len(data)
			if utf8.Valid(data) && wire.Depth(data) <= wire.MaxDepth && !text {
				t.Fatalf("%q is sent as base64", data)
			}
			if msg.Data != nil || !bytes.Equal(msg.DataB64, data) {
				t.Fatalf("binary %q decodes as %#v", data, msg)
			}
		case json.Unmarshal(msg.Data, &text) == nil && text == string(data) && msg.DataB64 == nil: // sent as a string
		default:
			if msg.DataB64 != nil || compact(t, msg.Data) != compact(t, data) {
				t.Fatalf("%q decodes as %#v", data, msg)
			}
			if strings.HasPrefix(contentType, "text/") {
				t.Fatalf("%q was not sent as a string: %s", data, frame)
			}
		}
	})
}

// quoted returns how many bytes data needs as a JSON string.
func quoted(data []byte) int {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(string(data)) // never fails for a string
	return buf.Len() - 1
}

func compact(t *testing.T, data []byte) string {
	t.Helper()
	var buf bytes.Buffer
	if err := json.Compact(&buf, data); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return buf.String()
}

// canonical removes the two differences that decoding and encoding a msg again may make: its JSON
// is compacted with some characters escaped, and an empty data_b64 is omitted.
func canonical(f wire.Frame) any {
	msg, ok := f.(wire.Msg)
	if !ok {
		return f
	}
	var data any
	if msg.Data != nil {
		decoder := json.NewDecoder(bytes.NewReader(msg.Data))
		decoder.UseNumber()
		_ = decoder.Decode(&data) // never fails: Decode has checked it
	}
	at := msg.Time
	msg.Data, msg.Time = nil, time.Time{}
	if len(msg.DataB64) == 0 {
		msg.DataB64 = nil
	}
	return struct {
		msg  wire.Msg
		at   string
		data any
	}{msg, at.Format(time.RFC3339Nano), data}
}
