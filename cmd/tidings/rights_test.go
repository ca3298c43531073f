//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// guarded is a server with deploy/nats-server.conf, whose passwords are the users' names. The users have the inboxes that it says.
type guarded struct {
	*streamstest.Server
	t *testing.T
}

func runGuarded(t *testing.T) guarded {
	t.Helper()
	return guarded{streamstest.Run(t, streamstest.WithConfig(leastRights(t))), t}
}

func leastRights(t *testing.T) string {
	t.Helper()
	conf, err := os.ReadFile(filepath.Join("deploy", "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("NATS_STORE: %q\n%s", t.TempDir(), conf)
	for _, user := range []string{"gateway", "responder", "publisher", "operator"} {
		text = fmt.Sprintf("%s_PASSWORD: %s\n%s", strings.ToUpper(user), user, text) // a variable, as one of the environment is
	}
	return text
}

// as returns a connection of a user, and a channel of its permission violations.
func (g guarded) as(user string) (*nats.Conn, <-chan error) {
	g.t.Helper()
	denied := make(chan error, 100)
	nc := g.Connect(g.t, nats.UserInfo(user, user), nats.CustomInboxPrefix("_INBOX_"+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	return nc, denied
}

// flags returns the flags with which a command connects as the user.
func (g guarded) flags(user string) []string {
	return []string{"--nats", g.URL(), "--nats-user", user, "--nats-password", user, "--nats-inbox", "_INBOX_" + user}
}

// command runs a command as the user and returns what it printed.
func (g guarded) command(user string, args ...string) (string, error) {
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(append(args, g.flags(user)...))
	root.SetOut(&out)
	err := root.ExecuteContext(g.t.Context())
	return out.String(), err
}

// hear runs a client that receives notifications until the test ends or the gateway disconnects it.
func hear(t *testing.T, url, user, device string) (got <-chan string, ended <-chan error) {
	t.Helper()
	messages, end := make(chan string, 100), make(chan error, 1)
	c, err := client.New(client.Config{
		URL: url, Device: device, Token: func(context.Context) (string, error) { return user, nil },
		OnMessage: func(_ context.Context, m client.Message) error { messages <- string(m.Data); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); end <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return messages, end
}

func within[T any](t *testing.T, what string, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(longer):
		t.Fatalf("no %s within %s", what, longer)
	}
	return got
}

// The whole system works with the configuration that we ship, and needs no permission that it does not grant.
func TestLeastRightsSuffice(t *testing.T) {
	t.Parallel()
	server := runGuarded(t)
	keys := filepath.Join(t.TempDir(), "keys")
	key := strings.Repeat("k", 64)
	if err := os.WriteFile(keys, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	responder, responderDenied := server.as("responder")
	respondWith(t, responder, auth.TokenIsUser("all"))
	g := runGateway(t, append(server.flags("gateway"), "--api-keys", keys)...)
	got, ended := hear(t, g.url(), "alice", "")

	phone, _ := hear(t, g.url(), "alice", "phone")

	backend, backendDenied := server.as("publisher")
	if err := backend.Publish("notify.user.alice", []byte(`"plain"`)); err != nil {
		t.Fatal(err)
	}
	if data := within(t, "notification", got); data != `"plain"` {
		t.Errorf("alice got %s", data)
	}
	publisher, err := streams.NewPublisher(backend, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := publisher.User(t.Context(), "alice", streams.Notification{Data: []byte(`"proof"`)}); err != nil {
		t.Fatal(err)
	}
	if data := within(t, "notification", got); data != `"proof"` {
		t.Errorf("alice got %s", data)
	}
	receipt, err := publisher.Topic(t.Context(), "all", streams.Notification{Data: []byte(`"topic"`)})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "notification of a topic", got)
	for range 3 {
		within(t, "notification on the other device", phone)
	}

	// The position is committed, as the operator sees.
	streamstest.Eventually(t, longer, func() error {
		out, err := server.command("operator", "users", "--json")
		if err == nil && !strings.Contains(out, fmt.Sprintf(`"position":%d,`, receipt.Seq)) {
			err = errors.New(out)
		}
		return err
	})
	if out, err := server.command("operator", "disconnect", "alice"); err != nil || !strings.HasPrefix(out, "closed 2 connections of alice (1 gateway answered)") {
		t.Errorf("disconnect: %s, %v", out, err)
	}
	var closed *client.CloseError
	if err := within(t, "end", ended); !errors.As(err, &closed) || closed.Code != 4410 {
		t.Errorf("alice was sent away with %v", err)
	}
	if out, err := server.command("gateway", "new-epoch"); err != nil {
		t.Errorf("new-epoch: %s, %v", out, err)
	}
	if out, err := server.command("operator", "users", "forget", "alice", "--messages", "--yes"); err != nil || out != "forgot alice: 2 positions, 2 notifications\n" {
		t.Errorf("forget: %s, %v", out, err)
	}
	operator, operatorDenied := server.as("operator")
	pong, err := operator.Request("$SRV.PING.tidings-gateway", nil, 5*time.Second)
	if err != nil || !bytes.Contains(pong.Data, []byte("tidings-gateway")) {
		t.Errorf("nats service ls: %v", err)
	}
	askHTTP(t, g, key)
	// The responder of this test takes any token.
	out, err := server.command("gateway", "doctor", "--listen", g.listen)
	if err == nil || strings.Count(out, "FAIL") != 1 || !strings.Contains(out, "accepts any token") || strings.Contains(out, "may not") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	if code := g.terminate(longer); code != 0 {
		t.Errorf("the gateway ended with %d", code)
	}
	if g.logged("ermissions") || g.logged(`"level":"error"`) {
		t.Error("the gateway was denied something")
	}
	for _, nc := range []*nats.Conn{responder, backend, operator} {
		if err := nc.Flush(); err != nil {
			t.Error(err)
		}
	}
	for name, denied := range map[string]<-chan error{"responder": responderDenied, "publisher": backendDenied, "operator": operatorDenied} {
		select {
		case err := <-denied:
			t.Errorf("%s: %v", name, err)
		default:
		}
	}
}

// The gateway is allowed what doctor tries, and beside that what is listed here.
func TestLeastRightsAreThoseThatDoctorTries(t *testing.T) {
	t.Parallel()
	var options server.Options
	if err := options.ProcessConfigString(leastRights(t)); err != nil {
		t.Fatal(err)
	}
	publish, subscribe := streams.Config{}.Rights()
	morePublish, moreSubscribe := delivery.Rights()
	wantPublish := slices.Concat(publish, morePublish, []string{
		"tidings.auth", "_INBOX_gateway.>", "_INBOX_operator.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$SRV.INFO",
	})
	wantSubscribe := slices.Concat(subscribe, moreSubscribe, []string{
		"_INBOX_gateway.>", "$SRV.*", "$SRV.*.tidings-gateway", "$SRV.*.tidings-gateway.*",
	})
	for _, user := range options.Users {
		if user.Username != "gateway" {
			continue
		}
		for _, lists := range [][2][]string{{user.Permissions.Publish.Allow, wantPublish}, {user.Permissions.Subscribe.Allow, wantSubscribe}} {
			got, want := slices.Sorted(slices.Values(lists[0])), slices.Sorted(slices.Values(lists[1]))
			if !slices.Equal(got, want) {
				t.Errorf("allowed %q\nwanted  %q", got, want)
			}
		}
		return
	}
	t.Error("there is no gateway")
}

// askHTTP publishes, reads and disconnects with the HTTP API.
func askHTTP(t *testing.T, g *gateway, key string) {
	t.Helper()
	for _, request := range []struct{ method, path, body string }{
		{"POST", "/v1/notifications", `{"to":"bob","data":1}`},
		{"POST", "/v1/notifications", `{"topic":"all","data":1}`},
		{"GET", "/v1/users/bob", ""},
		{"GET", "/v1/users/bob/notifications", ""},
		{"DELETE", "/v1/users/bob/connections", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), request.method, "http://"+g.listen+request.path, strings.NewReader(request.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode > 299 {
			t.Errorf("%s %s: %s %s", request.method, request.path, response.Status, text)
		}
	}
}
