package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/auth"
)

func TestRequestDoesNotPrintItsToken(t *testing.T) {
	req := auth.Request{Token: "sesame", Conn: "c1", RemoteAddr: "10.0.0.1", Origin: "https://x", UserAgent: "ua", Device: "web", Renew: true}
	outputs := map[string]string{"String": req.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10v"} {
		outputs["value "+verb] = fmt.Sprintf(verb, req)
		outputs["pointer "+verb] = fmt.Sprintf(verb, &req)
		outputs["slice "+verb] = fmt.Sprintf(verb, []auth.Request{req})
		outputs["field "+verb] = fmt.Sprintf(verb, struct{ Request auth.Request }{req})
	}
	var b bytes.Buffer
	log := zerolog.New(&b)
	log.Info().Object("r", req).Interface("i", req).Any("p", &req).Any("n", struct{ Request auth.Request }{req}).
		Fields(map[string]any{"f": req}).Stringer("s", req).Str("v", fmt.Sprint(req)).EmbedObject(req).Send()
	outputs["zerolog"] = b.String()
	text, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	outputs["JSON"] = string(text)
	for how, out := range outputs {
		for _, secret := range []string{"sesame", fmt.Sprintf("%x", "sesame"), fmt.Sprintf("%X", "sesame")} {
			if strings.Contains(out, secret) {
				t.Errorf("%s prints the token: %s", how, out)
			}
		}
		if !strings.Contains(out, "c1") {
			t.Errorf("%s does not print the rest: %s", how, out)
		}
	}
}

// received sends one request and returns it as a backend receives it.
func received(t *testing.T, req auth.Request) *nats.Msg {
	t.Helper()
	s := startServer(t)
	backend := connect(t, s)
	requests := make(chan *nats.Msg, 2)
	subscribe(t, backend, func(m *nats.Msg) {
		requests <- m
		_ = m.Respond([]byte(`{"success":true,"user_id":"42"}`))
	})
	id, err := auth.NewRequester(connect(t, s), auth.RequesterConfig{}).Authenticate(context.Background(), req)
	if err != nil || id.User != "42" {
		t.Fatalf("got %+v, %v", id, err)
	}
	return receive(t, requests, "the request")
}

func TestRequestAsTheBackendReceivesIt(t *testing.T) {
	full := auth.Request{Token: "token-1", Conn: "c1", RemoteAddr: "10.0.0.1:5", Origin: "https://app.example",
		UserAgent: "Mozilla/5.0 (X)", Device: "web ä", Renew: true}
	for name, test := range map[string]struct {
		req  auth.Request
		want nats.Header
	}{
		"all": {full, nats.Header{
			"Tidings-Conn":        {"c1"},
			"Tidings-Remote-Addr": {"10.0.0.1:5"},
			"Tidings-Origin":      {"https://app.example"},
			"Tidings-User-Agent":  {"Mozilla/5.0 (X)"},
			"Tidings-Device":      {"web ä"},
			"Tidings-Renew":       {"true"},
		}},
		"one":  {auth.Request{Token: "token-1", Conn: "c1"}, nats.Header{"Tidings-Conn": {"c1"}}},
		"none": {auth.Request{Token: "token-1"}, nil},
		"hostile": {auth.Request{
			Token:      "token-1",
			Conn:       "\x00\r\n\t",
			RemoteAddr: "1\x7f2",
			Origin:     "https://x\r\nTidings-Renew: true\r\n\r\nbody",
			UserAgent:  " a\x00b\xff\u0085c\n",
			Device:     strings.Repeat("é", 2000),
		}, nats.Header{
			"Tidings-Remote-Addr": {"1 2"},
			"Tidings-Origin":      {"https://x  Tidings-Renew: true    body"},
			"Tidings-User-Agent":  {"a b\ufffd c"},
			"Tidings-Device":      {strings.Repeat("é", 256)},
		}},
		"long and broken": {auth.Request{Token: "token-1", UserAgent: "a" + strings.Repeat("\xff", 4096) + "é",
			Origin: strings.Repeat("\x80", 600)},
			nats.Header{"Tidings-User-Agent": {"a" + strings.Repeat("\ufffd", 170)}, "Tidings-Origin": {strings.Repeat("\ufffd", 170)}}},
	} {
		t.Run(name, func(t *testing.T) {
			msg := received(t, test.req)
			if string(msg.Data) != "token-1" {
				t.Errorf("payload %q", msg.Data)
			}
			if len(msg.Header) != len(test.want) || !maps.EqualFunc(msg.Header, test.want, slices.Equal) {
				t.Errorf("got %q, want %q", msg.Header, test.want)
			}
		})
	}
}

func TestTokenArrivesUnchanged(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, token := range map[string]string{
		"empty":      "",
		"NUL":        "a\x00b",
		"lines":      "\r\nPUB x 1\r\n",
		"every byte": string(every),
		"100 KB":     strings.Repeat("\x00\xffx\n", 25_000),
	} {
		t.Run(name, func(t *testing.T) {
			if msg := received(t, auth.Request{Token: token, Conn: "c1"}); string(msg.Data) != token {
				t.Errorf("%d of %d bytes arrived", len(msg.Data), len(token))
			}
		})
	}
}
