package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/wire"
)

func TestDecodeRejects(t *testing.T) {
	for name, frame := range map[string]string{
		"empty":                "",
		"not JSON":             "hello",
		"truncated":            `{"type":"ack","seq":1`,
		"array":                `[{"type":"ack","seq":1}]`,
		"string":               `"ack"`,
		"null":                 `null`,
		"type missing":         `{"seq":1}`,
		"type null":            `{"type":null,"seq":1}`,
		"type a number":        `{"type":4,"seq":1}`,
		"type an object":       `{"type":{},"seq":1}`,
		"seq negative":         `{"type":"ack","seq":-1}`,
		"seq a string":         `{"type":"ack","seq":"1"}`,
		"seq a float":          `{"type":"ack","seq":1.5}`,
		"seq too large":        `{"type":"ack","seq":18446744073709551616}`,
		"after negative":       `{"type":"auth","token":"t","after":-1}`,
		"token a number":       `{"type":"auth","token":7}`,
		"time not a time":      `{"type":"msg","seq":1,"time":"yesterday","data":1}`,
		"invalid base64":       `{"type":"msg","seq":1,"time":"2026-11-22T17:55:19.123Z","data_b64":"?"}`,
		"trailing garbage":     `{"type":"ack","seq":1}x`,
		"two frames":           `{"type":"ack","seq":1}{"type":"ack","seq":2}`,
		"a field twice":        `{"type":"auth","token":"a","token":"b"}`,
		"unknown field twice":  `{"type":"ack","seq":1,"x":1,"x":1}`,
		"two types":            `{"type":"msg","seq":1,"type":"ack"}`,
		"other capitals":       `{"type":"auth","Token":"a"}`,
		"both capitalizations": `{"type":"auth","token":"a","TOKEN":"b"}`,
		"type capitalized":     `{"Type":"ack","seq":1}`,
		"invalid UTF-8":        "{\"type\":\"auth\",\"token\":\"\xff\"}",
		"invalid UTF-8 after":  "{\"type\":\"pong\"}\xc3",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := wire.Decode([]byte(frame))
			if got != nil || !errors.Is(err, wire.ErrBadFrame) {
				t.Fatalf("Decode = %#v, %v, want ErrBadFrame", got, err)
			}
		})
	}
}

func TestDecodeIgnores(t *testing.T) {
	for frame, want := range map[string]wire.Frame{
		`{"type":"poke","seq":"x"}`:                         nil,
		`{"type":""}`:                                       nil,
		`{"type":"ack","seq":7,"urgent":{"seq":8}}`:         wire.Ack{Seq: 7},
		` { "seq" : 7 , "type" : "ack" } ` + "\n":           wire.Ack{Seq: 7},
		`{"type":"ping"}`:                                   wire.Ping{},
		`{"type":"auth","token":"t","after":null}`:          wire.Auth{Token: "t"},
		`{"type":"auth","token":"t","after":0,"epoch":"e"}`: wire.Auth{Token: "t", After: after(0), Epoch: "e"},
	} {
		got, err := wire.Decode([]byte(frame))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Decode(%s) = %#v, %v, want %#v", frame, got, err, want)
		}
	}
}

// If a field were missing in the list of known fields, Decode would accept it in any capital
// letters.
func TestDecodeKnowsAllFields(t *testing.T) {
	for _, f := range []wire.Frame{
		wire.Hello{}, wire.Auth{}, wire.Ready{}, wire.Gap{}, wire.Msg{}, wire.Live{}, wire.Ack{}, wire.Acked{}, wire.Ping{}, wire.Pong{},
		wire.Renew{}, wire.Renewed{}, wire.Expiring{}, wire.Error{}, wire.Goaway{},
	} {
		for i := range reflect.TypeOf(f).NumField() {
			name, _, _ := strings.Cut(reflect.TypeOf(f).Field(i).Tag.Get("json"), ",")
			frame := fmt.Sprintf(`{"type":%q,%q:null}`, f.Type(), strings.ToUpper(name))
			if _, err := wire.Decode([]byte(frame)); err == nil {
				t.Errorf("%s is accepted", frame)
			}
		}
	}
}

func TestDecodeErrorsDoNotQuoteTheFrame(t *testing.T) {
	const canary, digits = "CANARY", "31415926535"
	for _, frame := range []string{
		canary,
		`"` + canary + `"`,
		`["` + canary + `"]`,
		`{"` + canary + `":1}`,
		`{"type":["` + canary + `"]}`,
		`{"type":"auth","token":"` + canary + `"`,
		`{"type":"auth","token":["` + canary + `"]}`,
		`{"type":"auth","token":{"` + canary + `":1}}`,
		`{"type":"auth","token":` + digits + `}`,
		`{"type":"auth","token":"` + canary + `","after":-` + digits + `}`,
		`{"type":"auth","token":"` + canary + `","after":` + digits + `.5}`,
		`{"type":"auth","token":"` + canary + `","after":"` + canary + `"}`,
		`{"type":"auth","token":"` + canary + `"}` + canary,
		`{"type":"renew","token":"` + canary + "\xff" + `"}`,
		`{"type":"auth","` + canary + `":1,"` + canary + `":1}`,
		`{"type":"msg","time":"` + canary + `"}`,
		`{"type":"msg","data_b64":"?` + canary + `"}`,
	} {
		_, err := wire.Decode([]byte(frame))
		if err == nil {
			t.Errorf("Decode(%s) returned no error", frame)
		} else if text := err.Error(); strings.Contains(text, canary) || strings.Contains(text, digits) {
			t.Errorf("Decode(%s) quotes the frame: %s", frame, text)
		}
	}
}

func TestAppendKeepsDst(t *testing.T) {
	if got := string(wire.Append([]byte("data: "), wire.Pong{})); got != `data: {"type":"pong"}` {
		t.Errorf("Append = %s", got)
	}
	got := string(wire.AppendMsg([]byte("data: "), wire.Payload{Seq: 1, Time: sentAt, Data: []byte("{\n}")}))
	if want := `data: {"type":"msg","seq":1,"time":"2026-11-22T17:55:19.123Z","data":{}}`; got != want {
		t.Errorf("AppendMsg = %s, want %s", got, want)
	}
}

func TestCloseCodeRetry(t *testing.T) {
	for code, retry := range map[wire.CloseCode]bool{
		1000: true, 1001: true, 1002: false, 1003: false, 1005: true, 1006: true, 1007: false, 1008: false, 1009: false,
		1010: true, 1011: true, 1012: true, 1013: true, 1014: true, 1015: true, 3000: true, 4000: true, 4399: true,
		wire.CloseBadFrame: false, wire.CloseUnauthorized: false, wire.CloseForbidden: false, wire.CloseNoProtocol: false,
		wire.CloseDisconnected: false, wire.CloseTooLarge: false, 4499: false,
		wire.CloseInternal: true, wire.CloseLeaseExpired: true, wire.CloseUnavailable: true, wire.CloseTimeout: true,
		wire.CloseStreamReplaced: true, wire.CloseDraining: true, wire.CloseTooMany: true, 4599: true,
	} {
		if code.Retry() != retry {
			t.Errorf("%v: Retry = %v, want %v", code, !retry, retry)
		}
	}
	if got := wire.CloseUnauthorized.String(); got != "4401 unauthorized" {
		t.Errorf("String = %q", got)
	}
	if got := wire.CloseCode(4577).String(); got != "4577" {
		t.Errorf("String = %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatal("no golden frames: ", err)
	}
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := wire.Decode(data)
		spaced, spacedErr := wire.Decode(append([]byte{' '}, data...)) // takes the general path, not decodeCommon
		if !reflect.DeepEqual(frame, spaced) || (err == nil) != (spacedErr == nil) {
			t.Fatalf("%#v, %v, with a space before it %#v, %v", frame, err, spaced, spacedErr)
		}
		if err != nil {
			if frame != nil || !errors.Is(err, wire.ErrBadFrame) {
				t.Fatalf("Decode = %#v, %v", frame, err)
			}
			return
		}
		if frame == nil {
			return
		}
		line := wire.Append(nil, frame)
		again, err := wire.Decode(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !reflect.DeepEqual(canonical(frame), canonical(again)) {
			t.Fatalf("%#v decodes as %#v after Append", frame, again)
		}
		if twice := wire.Append(nil, again); !bytes.Equal(line, twice) {
			t.Fatalf("%s becomes %s after Decode and Append", line, twice)
		}
	})
}
