package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// goldenDir holds the golden frames, which the JavaScript tests read too. Each file holds one frame
// as it is on the wire, and a line feed.
const goldenDir = "../../testdata/frames"

var update = flag.Bool("update", false, "rewrite the golden frames")

var sentAt = time.Date(2026, 11, 22, 17, 55, 19, 123_456_789, time.UTC)

func after(seq uint64) *uint64 { return &seq }

var goldenFrames = map[string]wire.Frame{
	"hello":       wire.Hello{Protocol: wire.Subprotocol, AuthWithin: 10_000},
	"auth":        wire.Auth{Token: "token-1"},
	"auth-device": wire.Auth{Token: "token-1", Device: "web"},
	"auth-resume": wire.Auth{Token: "token-1", Device: "web", After: after(41), Epoch: "k3f9", User: "42"},
	"auth-start":  wire.Auth{Token: "token-1", After: after(0), Epoch: "k3f9", User: "42"},
	"ready":       wire.Ready{User: "42", Conn: "c-7f3a", Epoch: "k3f9", After: 41, Unread: 9, Ping: 25_000},
	"ready-lease": wire.Ready{
		User: "42", Conn: "c-7f3a", Epoch: "k3f9", After: 41, Unread: 9, Ping: 25_000, ExpiresIn: 3_600_000,
	},
	"gap-expired":      wire.Gap{After: 41, Next: 97, Reason: wire.GapExpired},
	"gap-limit":        wire.Gap{After: 41, Next: 97, Reason: wire.GapLimit},
	"gap-stream-reset": wire.Gap{Reason: wire.GapStreamReset},
	"gap-purged":       wire.Gap{After: 105, Reason: wire.GapPurged},
	"live":             wire.Live{Seq: 105},
	"live-empty":       wire.Live{},
	"ack":              wire.Ack{Seq: 105},
	"acked":            wire.Acked{Seq: 105},
	"acked-unread":     wire.Acked{Seq: 105, Unread: 3},
	"ping":             wire.Ping{},
	"ping-seq":         wire.Ping{Seq: 212},
	"pong":             wire.Pong{},
	"renew":            wire.Renew{Token: "token-2"},
	"renewed":          wire.Renewed{},
	"renewed-lease":    wire.Renewed{ExpiresIn: 3_600_000},
	"expiring":         wire.Expiring{In: 60_000},
	"error-bad-ack":    wire.Error{Code: wire.ErrorBadAck, Message: "106 is beyond what was sent"},
	"error-renew-unavailable": wire.Error{
		Code: wire.ErrorRenewUnavailable, Message: "authentication is unavailable, try again",
	},
	"goaway":          wire.Goaway{Code: wire.CloseDraining, Reason: "draining", RetryAfter: 8123},
	"goaway-no-retry": wire.Goaway{Code: wire.CloseDisconnected, Reason: "logout"},
}

var goldenMsgs = map[string]wire.Payload{
	"msg-json": {
		Seq: 97, ID: "ord-991", Kind: "order.shipped", Time: sentAt,
		Data: []byte(`{"order":991,"carrier":"DHL","note":"<b>grüße</b> 📦"}`),
	},
	"msg-string":  {Seq: 98, Time: sentAt, Data: []byte("your \"order\"\nhas shipped 📦")},
	"msg-empty":   {Seq: 99, Time: sentAt},
	"msg-base64":  {Seq: 100, ID: "img-1", Time: sentAt, Data: []byte{0xff, 0xd8, 0x00, 0x01}},
	"msg-topic":   {Seq: 101, ID: "v2.0", Kind: "release", Time: sentAt, Topic: "releases", Data: []byte("[1,null,true]")},
	"msg-text":    {Seq: 102, Time: sentAt, ContentType: "text/plain; charset=utf-8", Data: []byte(`{"order":991}`)},
	"msg-quoting": {Seq: 103, ID: `a"b\c`, Kind: "x\r\ny", Time: sentAt, Topic: "наука", Data: []byte("0")},
}

// decodedMsgs is the result of decoding the msg files.
var decodedMsgs = map[string]wire.Msg{
	"msg-json":    {Seq: 97, ID: "ord-991", Kind: "order.shipped", Data: goldenMsgs["msg-json"].Data},
	"msg-string":  {Seq: 98, Data: []byte(`"your \"order\"\nhas shipped 📦"`)},
	"msg-empty":   {Seq: 99, Data: []byte(`""`)},
	"msg-base64":  {Seq: 100, ID: "img-1", DataB64: []byte{0xff, 0xd8, 0x00, 0x01}},
	"msg-topic":   {Seq: 101, ID: "v2.0", Kind: "release", Topic: "releases", Data: []byte("[1,null,true]")},
	"msg-text":    {Seq: 102, Data: []byte(`"{\"order\":991}"`)},
	"msg-quoting": {Seq: 103, ID: `a"b\c`, Kind: "x\r\ny", Topic: "наука", Data: []byte("0")},
}

func golden(t *testing.T, name string, encoded []byte) []byte {
	t.Helper()
	path := filepath.Join(goldenDir, name+".json")
	if *update {
		if err := os.WriteFile(path, append(bytes.Clone(encoded), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	line, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := string(encoded) + "\n"; string(line) != want {
		t.Fatalf("%s holds\n%swe encode\n%s", path, line, want)
	}
	return bytes.TrimSuffix(line, []byte("\n"))
}

func TestGoldenFrames(t *testing.T) {
	for name, frame := range goldenFrames {
		t.Run(name, func(t *testing.T) {
			line := golden(t, name, wire.Append(nil, frame))
			got, err := wire.Decode(line)
			if err != nil || !reflect.DeepEqual(got, frame) {
				t.Fatalf("Decode = %#v, %v, want %#v", got, err, frame)
			}
		})
	}
}

func TestGoldenMsgs(t *testing.T) {
	for name, payload := range goldenMsgs {
		t.Run(name, func(t *testing.T) {
			line := golden(t, name, wire.AppendMsg(nil, payload))
			got, err := wire.Decode(line)
			want := decodedMsgs[name]
			want.Time = sentAt.Truncate(time.Millisecond)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("Decode = %#v, %v, want %#v", got, err, want)
			}
		})
	}
}

// Only the JavaScript tests would check a file that no table lists.
func TestGoldenFilesAreAllNamed(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for _, path := range paths {
		name := filepath.Base(path[:len(path)-len(filepath.Ext(path))])
		frame, isFrame := goldenFrames[name]
		if _, isMsg := goldenMsgs[name]; isMsg {
			frame = wire.Msg{}
		} else if !isFrame {
			t.Errorf("%s is in no table of this test", path)
			continue
		}
		types[frame.Type()] = true
	}
	if len(types) != 15 {
		t.Errorf("%d frame types have a file, want all 15", len(types))
	}
}

// Decode knows the fields of all frames.
func TestGoldenFieldsInCapitalLettersAreRefused(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			other := maps.Clone(fields)
			delete(other, name)
			other[strings.ToUpper(name)] = fields[name]
			text, _ := json.Marshal(other)
			if got, err := wire.Decode(text); !errors.Is(err, wire.ErrBadFrame) {
				t.Errorf("%s = %#v, %v, want ErrBadFrame", text, got, err)
			}
		}
	}
}
