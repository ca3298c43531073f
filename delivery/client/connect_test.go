package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
)

func TestNewRejects(t *testing.T) {
	for name, change := range map[string]func(cfg *client.Config){
		"no URL":       func(cfg *client.Config) { cfg.URL = "" },
		"no host":      func(cfg *client.Config) { cfg.URL = "ws:///v1/ws" },
		"a path":       func(cfg *client.Config) { cfg.URL = "/v1/ws" },
		"bad URL":      func(cfg *client.Config) { cfg.URL = "ws://secret\x00@host" },
		"scheme":       func(cfg *client.Config) { cfg.URL = "nats://host" },
		"user":         func(cfg *client.Config) { cfg.URL = "ws://me:secret@host" },
		"no token":     func(cfg *client.Config) { cfg.Token = nil },
		"no OnMessage": func(cfg *client.Config) { cfg.OnMessage = nil },
		"half a resume": func(cfg *client.Config) {
			cfg.Resume = &client.Position{User: "42", Seq: 7}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := client.Config{
				URL:       "ws://127.0.0.1:1",
				Token:     func(context.Context) (string, error) { return "", nil },
				OnMessage: func(context.Context, client.Message) error { return nil },
				Resume:    &client.Position{}, // as saved before the first admission
			}
			if _, err := client.New(cfg); err != nil {
				t.Fatal(err)
			}
			change(&cfg)
			if _, err := client.New(cfg); err == nil || strings.Contains(err.Error(), "secret") {
				t.Fatalf("New = %v", err)
			}
		})
	}
}

func TestURL(t *testing.T) {
	s := newServer(t)
	host := strings.TrimPrefix(s.URL, "http://")
	for url, want := range map[string]string{
		"http://" + host:                 wire.Path,
		"ws://" + host:                   wire.Path,
		"ws://" + host + "/":             wire.Path,
		"ws://" + host + "/v1/ws":        "/v1/ws",
		"ws://" + host + "/push?a=b#top": "/push?a=b",
	} {
		r := start(s, func(cfg *client.Config) {
			cfg.URL = url
			cfg.Header = http.Header{"Origin": {"https://app.example.com"}}
		})
		p := s.accept()
		if got := p.request.RequestURI; got != want {
			t.Errorf("%s: connects to %s, want %s", url, got, want)
		}
		if got := p.request.Header.Get("Origin"); got != "https://app.example.com" {
			t.Errorf("Origin is %q", got)
		}
		if got := p.request.Header.Get("Sec-WebSocket-Protocol"); got != wire.Subprotocol {
			t.Errorf("subprotocol %q offered", got)
		}
		_ = r.stop()
	}
}

func TestConnects(t *testing.T) {
	for _, choose := range []string{wire.Subprotocol, ""} {
		s := newServer(t)
		s.set(func(s *server) { s.choose = choose })
		var got []client.Message
		r := start(s, func(cfg *client.Config) {
			cfg.Device = "web"
			cfg.OnMessage = func(_ context.Context, m client.Message) error {
				got = append(got, m)
				return nil
			}
		})
		p := s.accept()
		if auth := p.admit(ready(41)); auth != (wire.Auth{Token: "token-1", Device: "web"}) {
			t.Fatalf("auth = %+v", auth)
		}
		p.send(wire.Gap{After: 41, Next: 97, Reason: wire.GapExpired})
		next[wire.Pong](p) // the answer to the gap
		topic := wire.Msg{Seq: 97, ID: "a", Kind: "k", Time: time.Now().UTC(), Topic: "releases", DataB64: []byte{0xff}}
		p.send(topic, wire.Live{Seq: 105}, msg(106), wire.Acked{Seq: 106, Unread: 2})
		p.sendRaw(1, `{"type":"poke","seq":"x"}`)
		p.send(wire.Error{Code: wire.ErrorBadAck, Message: "no"}, wire.Renewed{})
		r.want("connecting", "replaying", "ready 42 e1 41", "gap 41 97 expired", "msg 97", "live", "live at 105", "msg 106",
			"acked 106 2", "error the server reports bad_ack: no")
		if err := r.stop(); err != nil {
			t.Fatalf("Run = %v", err)
		}
		r.want("closed")
		if got[0].ID != "a" || got[0].Kind != "k" || got[0].Topic != "releases" || got[0].DataB64[0] != 0xff ||
			!got[0].Time.Equal(topic.Time) || got[0].Epoch != "e1" || !got[0].Replayed {
			t.Errorf("first = %+v", got[0])
		}
		if string(got[1].Data) != "106" || got[1].Epoch != "e1" || got[1].Replayed {
			t.Errorf("second = %+v", got[1])
		}
	}
}

func TestOtherProtocolStops(t *testing.T) {
	for name, serve := range map[string]func(s *server){
		"subprotocol": func(s *server) { s.set(func(s *server) { s.choose = "tidings.v2" }) },
		"hello":       func(s *server) { go func() { s.accept().send(wire.Hello{Protocol: "tidings.v2"}) }() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			serve(s)
			wantClose(t, start(s, nil).wait(), wire.CloseNoProtocol)
		})
	}
}

// wantClose checks for a CloseError of that code.
func wantClose(t *testing.T, err error, code wire.CloseCode) {
	t.Helper()
	var closed *client.CloseError
	if !errors.As(err, &closed) || closed.Code != code {
		t.Fatalf("error = %v, want a CloseError of %v", err, code)
	}
}

func TestHTTPErrors(t *testing.T) {
	for status, code := range map[int]wire.CloseCode{
		400: wire.CloseNoProtocol, 401: wire.CloseUnauthorized, 403: wire.CloseForbidden, 404: wire.CloseNoProtocol,
	} {
		s := newServer(t)
		s.set(func(s *server) { s.refuse = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) } })
		r := start(s, nil)
		wantClose(t, r.wait(), code)
		r.want("connecting", "closed")
		wantClose(t, r.reason(client.Closed), code)
	}
	for status, code := range map[int]wire.CloseCode{
		200: 0, 301: 0, 429: wire.CloseTooMany, 500: 0, 502: 0, 503: wire.CloseUnavailable,
	} {
		s := newServer(t)
		s.set(func(s *server) { s.refuse = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) } })
		r := start(s, nil)
		r.want("connecting", "waiting", "connecting", "waiting")
		if err := r.reason(client.Waiting); code != 0 {
			wantClose(t, err, code)
		} else if err == nil {
			t.Errorf("%d: waits without an error", status)
		}
		s.set(func(s *server) { s.refuse = nil })
		s.accept().admit(ready(0))
		r.until("replaying")
		_ = r.stop()
	}
}

func TestHTTPRetryAfter(t *testing.T) {
	s := newServer(t)
	var refused time.Time
	s.set(func(s *server) {
		s.refuse = func(w http.ResponseWriter, _ *http.Request) { // called with mu held
			s.refuse, refused = nil, time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
		}
	})
	start(s, nil)
	p := s.accept()
	s.set(func(*server) {
		if waited := p.at.Sub(refused); waited < time.Second {
			t.Errorf("reconnected after %v", waited)
		}
	})
}

func TestUnreachableServer(t *testing.T) {
	s := newServer(t)
	s.Close()
	r := start(s, nil)
	r.want("connecting", "waiting", "connecting", "waiting")
	if err := r.reason(client.Waiting); err == nil {
		t.Error("waits without an error")
	}
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestStopWhileConnecting(t *testing.T) {
	s := newServer(t)
	connecting := make(chan struct{})
	s.set(func(s *server) {
		s.refuse = func(_ http.ResponseWriter, r *http.Request) {
			close(connecting)
			<-r.Context().Done()
		}
	})
	r := start(s, nil)
	receive(t, connecting)
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestOnlyOneRun(t *testing.T) {
	s := newServer(t)
	r := start(s, nil)
	p := s.accept()
	p.admit(ready(7))
	p.send(msg(8), wire.Live{Seq: 8})
	r.until("live at 8")
	if err := r.Run(context.Background()); err == nil {
		t.Error("a second Run did not fail")
	}
	_ = r.stop()

	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan error, 1)
	go func() { second <- r.Run(ctx) }()
	if auth := s.accept().admit(ready(8)); auth.After == nil || *auth.After != 8 {
		t.Errorf("the second Run resumes with %+v", auth)
	}
	cancel()
	if err := receive(t, second); err != nil {
		t.Errorf("Run = %v", err)
	}
}
