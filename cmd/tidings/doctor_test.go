package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// examine runs tidings doctor and returns what it found, by check.
func examine(t *testing.T, args ...string) map[string][]finding {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(append([]string{"doctor", "--json", "--listen", "127.0.0.1:0", "--admin-listen", ""}, args...))
	root.SetOut(&out)
	failed := root.ExecuteContext(t.Context())
	all, broken := map[string][]finding{}, false
	for dec := json.NewDecoder(&out); dec.More(); {
		var f finding
		if err := dec.Decode(&f); err != nil {
			t.Fatal(err)
		}
		all[f.Check] = append(all[f.Check], f)
		broken = broken || f.Verdict == isBad
		if (f.Verdict == isGood) != (f.Do == "") {
			t.Errorf("it says what to do where something is wrong, and only there: %+v", f)
		}
	}
	if broken != (failed != nil) {
		t.Errorf("its end is %v", failed)
	}
	return all
}

// finds fails the test unless one of the findings has the verdict, and the text in what was found or in what to do.
func finds(t *testing.T, all []finding, verdict, text string) {
	t.Helper()
	for _, f := range all {
		if f.Verdict == verdict && strings.Contains(f.Found+" ("+f.Do+")", text) {
			return
		}
	}
	t.Errorf("%+v, want %s %q", all, verdict, text)
}

func TestDoctorFindsTheStreamsFaults(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	js := server.JetStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEEP"}); err != nil { // or the server removes its directory with the last stream
		t.Fatal(err)
	}
	fit := func() jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: streams.DefaultName, Subjects: []string{"notify.user.*", "notify.topic.*"}, AllowDirect: true, AllowMsgTTL: true,
			MaxConsumers: streams.DefaultMaxConsumers, MaxAge: time.Hour, Discard: jetstream.DiscardOld,
		}
	}
	for _, test := range []struct {
		name           string
		stream         func(*jetstream.StreamConfig)
		args           []string
		check, verdict string
		text           string
	}{
		{"fit", func(*jetstream.StreamConfig) {}, nil, "stream", isGood, "max-msgs-per-user none, max-age 1h, max-bytes none"},
		{"not as Tidings needs it", func(c *jetstream.StreamConfig) { c.AllowDirect, c.AllowMsgTTL = false, false }, nil,
			"stream", isBad, "allow_direct false → true, allow_msg_ttl none → true"},
		{"too few consumers", func(c *jetstream.StreamConfig) { c.MaxConsumers = 10 }, nil, "stream", isPoor, "max_consumers 10 → 1000000"},
		{"rollups", func(c *jetstream.StreamConfig) { c.AllowRollup = true }, nil, "stream", isBad, "allow_rollup_hdrs true → none"},
		{"batches", func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true }, nil, "stream", isBad, "allow_atomic true → none"},
		{"schedules", func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = true }, nil, "stream", isBad, "NATS cannot switch them off (delete it with"},
		{"cannot be purged", func(c *jetstream.StreamConfig) { c.DenyPurge = true }, nil, "stream", isPoor, "does not allow deleting or purging"},
		{"lacks topics", func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] }, nil, "stream", isBad, "[notify.user.*] → [notify.user.*,notify.topic.*]"},
		{"not as asked", func(*jetstream.StreamConfig) {}, []string{"--max-age", "2h"}, "stream", isPoor, "max_age 1h0m0s → 2h0m0s"},
		{"would shrink", func(*jetstream.StreamConfig) {}, []string{"--max-age", "1m"}, "stream", isBad, "would delete what is over that"},
		{"in memory", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, nil, "stream", isBad, "kept in memory"},
		{"a queue", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, nil, "stream", isBad, `its retention is "WorkQueue"`},
		{"refuses what is new", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew }, nil, "stream", isBad, "discard new → old"},
		{"endless", func(c *jetstream.StreamConfig) { c.MaxAge = 0 }, nil, "stream", isPoor, "grows with every new user"},
		{"of another name", func(c *jetstream.StreamConfig) { c.Name = "OTHER" }, nil, "stream", isBad, "OTHER has its subjects"},
		{"elsewhere", func(c *jetstream.StreamConfig) { c.Name, c.Subjects = "OTHER", []string{"other"} }, nil, "stream", isPoor, "there is no stream NOTIFICATIONS"},
		{"room for consumers", func(*jetstream.StreamConfig) {}, nil, "consumers", isGood, "2 of 1,000,000"},
		{"little room for consumers", func(c *jetstream.StreamConfig) { c.MaxConsumers = 2 }, nil, "consumers", isBad, "2 of 2"},
		{"no limit for consumers", func(c *jetstream.StreamConfig) { c.MaxConsumers = -1 }, nil, "consumers", isPoor, "1,000 unless"},
		{"full", func(c *jetstream.StreamConfig) { c.MaxBytes = 1200 }, nil, "space", isPoor, "--max-bytes"},
		{"not full", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }, nil, "space", isGood, "1 notification in 1.0 KiB of 1.0 MiB, the oldest from"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := fit()
			test.stream(&cfg)
			stream, err := js.CreateStream(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			before, err := stream.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if test.check == "consumers" {
				for i := range 2 {
					if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprint("c", i)}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if test.check == "space" {
				if _, err := js.Publish(t.Context(), "notify.user.alice", make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			}
			finds(t, examine(t, append(test.args, "--nats", server.URL(), "--auth-timeout", "20ms")...)[test.check], test.verdict, test.text)

			// It has changed nothing.
			after, err := stream.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(before.Config) != fmt.Sprint(after.Config) || test.check == "stream" && after.State.LastSeq != before.State.LastSeq {
				t.Errorf("before %+v, after %+v", before, after)
			}
			server.DeleteStream(t, cfg.Name)
		})
	}
}

func TestDoctorFindsTheServersFaults(t *testing.T) {
	t.Parallel()
	nowhere := fmt.Sprint("nats://127.0.0.1:", streamstest.FreePort(t))
	bare := streamstest.Run(t, streamstest.WithoutJetStream())
	all := examine(t, "--nats", bare.URL())
	finds(t, all["jetstream"], isBad, "start nats-server with -js")
	finds(t, all["server"], isGood, bare.URL())
	finds(t, all["version"], isGood, "nats-server 2.")
	if len(all["jetstream"]) != 1 || len(all["stream"]) > 0 {
		t.Errorf("a stream without JetStream: %+v", all["stream"])
	}
	finds(t, examine(t, "--nats", nowhere)["server"], isBad, "is it running?")
	finds(t, examine(t, "--nats", bare.URL(), "--max-notification", "2000000")["payload"], isBad, "set max_payload of the server to 2008192 or more")

	lax := streamstest.Run(t, streamstest.WithConfig(`jetstream { strict: false }`))
	finds(t, examine(t, "--nats", lax.URL())["jetstream"], isPoor, "set strict: true")

	guarded := streamstest.Run(t, streamstest.WithConfig(`accounts { A {
		jetstream: { max_store: 2000, max_streams: 1, max_consumers: 1 }
		users: [
			{ user: all, password: p }
			{ user: some, password: p, permissions: { publish: { deny: ["$JS.API.CONSUMER.RESET.NOTIFICATIONS.*", "tidings.auth"] } } }
			{ user: deaf, password: p, permissions: { subscribe: { deny: "_INBOX.>" } } }
			{ user: mute, password: p, permissions: { publish: "x" } }
		] } }`))
	js := guarded.JetStream(t, nats.UserInfo("all", "p"))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: streams.DefaultName, Subjects: []string{"notify.user.*"}})
	if err != nil {
		t.Fatal(err)
	}
	as := func(user string) map[string][]finding {
		t.Helper()
		return examine(t, "--nats", guarded.URL(), "--nats-user", user, "--nats-password", "p", "--auth-timeout", "100ms")
	}
	finds(t, as("all")["jetstream"], isGood, "0 bytes on disk of 2.0 KiB, 1 stream of 1, 0 consumers, at most 1 on each stream")
	finds(t, as("all")["consumers"], isGood, "0 of 1, the limit of the NATS account")
	if _, err := js.Publish(t.Context(), "notify.user.alice", make([]byte, 1600)); err != nil {
		t.Fatal(err)
	}
	finds(t, as("all")["jetstream"], isPoor, "raise the account's limits, before it is full")
	if _, err := js.Publish(t.Context(), "notify.user.alice", make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	finds(t, as("all")["jetstream"], isBad, "raise the account's limits, or remove what is not needed: publishers are refused")
	some := as("some")
	finds(t, some["rights"], isBad, "some may not publish to $JS.API.CONSUMER.RESET.NOTIFICATIONS.*")
	finds(t, some["responder"], isBad, "may not publish to tidings.auth")
	finds(t, as("deaf")["rights"], isBad, "deaf may not subscribe to _INBOX.>")
	mute := as("mute")
	finds(t, mute["rights"], isBad, "mute may not publish to $JS.API.STREAM.INFO.NOTIFICATIONS, $JS.API.STREAM.CREATE.NOTIFICATIONS, ")
	finds(t, mute["rights"], isPoor, "publish to notify.user.*: the HTTP API cannot publish")
	finds(t, examine(t, "--nats", guarded.URL(), "--nats-user", "all", "--nats-password", "wrong")["server"], isBad, "set --creds")
	stream, err := js.Stream(t.Context(), streams.DefaultName)
	if err != nil || stream.CachedInfo().State.LastSeq != 2 {
		t.Errorf("it stored something: %v, %v", stream.CachedInfo().State, err)
	}
}

func TestDoctorFindsTheRespondersFaults(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	answer := func(reply string) func(*testing.T) {
		return func(t *testing.T) {
			nc := server.Connect(t)
			if _, err := nc.Subscribe("tidings.auth", func(msg *nats.Msg) { _ = msg.Respond([]byte(reply)) }); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
		}
	}
	for name, test := range map[string]struct {
		begin         func(*testing.T)
		verdict, text string
	}{
		"nobody":       {func(*testing.T) {}, isBad, "no responder on tidings.auth (start a responder"},
		"admits all":   {answer(`{"success":true,"user_id":"root"}`), isBad, `accepts any token: it takes a random one for user "root"`},
		"rubbish":      {answer(`hello`), isBad, "is not understood"},
		"silent":       {answer(``), isBad, "is not understood"},
		"cannot say":   {answer(`{"success":false,"error":"unavailable","retry_after":2}`), isPoor, "cannot check tokens"},
		"any language": {answer(`{"success":false,"error":"unknown"}`), isGood, "(not a NATS service) refuses a random token, with unknown"},
		"a service": {func(t *testing.T) {
			table, err := auth.LoadTable(filepath.Join("..", "..", "testdata", "users.json"))
			if err != nil {
				t.Fatal(err)
			}
			respondWith(t, server.Connect(t), table)
		}, isGood, "tidings-auth 1.0.0 refuses a random token"},
		"late": {func(t *testing.T) {
			respondWith(t, server.Connect(t), auth.AuthenticatorFunc(func(ctx context.Context, _ auth.Request) (auth.Identity, error) {
				<-ctx.Done()
				return auth.Identity{}, ctx.Err()
			}))
		}, isBad, "no reply on tidings.auth within 300ms"},
	} {
		t.Run(name, func(t *testing.T) {
			test.begin(t)
			timeout := "20s"
			if name == "late" {
				timeout = "300ms"
			}
			finds(t, examine(t, "--nats", server.URL(), "--auth-timeout", timeout)["responder"], test.verdict, test.text)
		})
	}
	finds(t, responderFinding("x", auth.Identity{}, &auth.Refusal{Code: "unknown"}, 2*time.Second, 3*time.Second), isPoor, "took 2s of 3s")
}

// respondWith runs a responder until the test ends. It returns once the responder is ready.
func respondWith(t *testing.T, nc *nats.Conn, a auth.Authenticator) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	responder, ended := auth.NewResponder(nc, a, auth.ResponderConfig{Timeout: time.Second}), make(chan error, 1)
	go func() { ended <- responder.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-responder.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
}
