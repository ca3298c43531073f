//go:build linux

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
)

// A backend that may not read the stream learns that the data of a repeated id was not compared.
func TestLeastRightsDoNotCompareDuplicates(t *testing.T) {
	t.Parallel()
	server := runGuarded(t)
	gateway, _ := server.as("gateway")
	if _, err := streams.Open(t.Context(), gateway, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flag, data, want string }{
		{"--json=false", "one", "stored for alice: seq 1, id ord-991\n"},
		{"--json=false", "two", "already stored for alice: seq 1, id ord-991 (not compared: the stored data may differ)\n"},
		{"--json", "two", `{"duplicate":true,"id":"ord-991","seq":1,"unchecked":true,"user":"alice"}` + "\n"},
	} {
		if out, err := server.command("publisher", "publish", "alice", c.data, "--id", "ord-991", c.flag); err != nil || out != c.want {
			t.Errorf("%s %s: %q, %v", c.flag, c.data, out, err)
		}
	}
}

// A forgotten --nats-inbox is named by the errors that it causes.
func TestForgottenInboxIsNamed(t *testing.T) {
	t.Parallel()
	server := runGuarded(t)
	gateway, _ := server.as("gateway")
	if _, err := streams.Open(t.Context(), gateway, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, want string
		args       []string
	}{
		{"publisher", "or on its inbox: give --nats-inbox)", []string{"publish", "alice", "hello", "--timeout", "100ms"}},
		{"operator", "or on its inbox: give --nats-inbox)", []string{"users"}},
		{"operator", "publish to tidings.disconnect and to subscribe to _INBOX.>, or give --nats-inbox)", []string{"disconnect", "alice"}},
	} {
		flags := server.flags(c.user)
		root := newRoot()
		root.SetArgs(append(c.args, flags[:len(flags)-2]...)) // without --nats-inbox
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if c.args[0] == "users" { // has no timeout of its own that is short
			ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		}
		err := root.ExecuteContext(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args[0], err, c.want)
		}
	}
	// The gateway says the same of what NATS did not permit.
	nc := server.Connect(t, nats.UserInfo("gateway", "gateway"), nats.ErrorHandler(nil))
	if _, err := nc.SubscribeSync(nc.NewInbox()); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "publish to $JS.API.> and to subscribe to _INBOX.>, or give --nats-inbox)"
	if err := denied(nc, "$JS.API.>"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("gateway: %v, want %q", err, want)
	}
}
