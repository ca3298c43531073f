//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
)

// The configuration that we ship denies everything that it does not list.
func TestLeastRightsAreNoMore(t *testing.T) {
	t.Parallel()
	server := runGuarded(t)
	admin, _ := server.as("operator")
	gateway, _ := server.as("gateway")
	stream, err := streams.Open(t.Context(), gateway, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	const name = streams.DefaultName
	for user, may := range map[string]struct{ not, subscribe []string }{
		"publisher": {[]string{
			"$JS.API.CONSUMER.CREATE." + name, "$JS.API.CONSUMER.CREATE." + name + ".x.notify.user.alice", "$JS.API.CONSUMER.DURABLE.CREATE." + name + ".x",
			"$JS.API.CONSUMER.MSG.NEXT." + name + ".user-alice", "$JS.API.CONSUMER.LIST." + name, "$JS.API.CONSUMER.INFO." + name + ".user-alice",
			"$JS.API.CONSUMER.RESET." + name + ".user-alice", "$JS.API.CONSUMER.DELETE." + name + ".user-alice",
			"$JS.API.DIRECT.GET." + name, "$JS.API.DIRECT.GET." + name + ".notify.user.alice", "$JS.API.STREAM.MSG.GET." + name,
			"$JS.API.STREAM.PURGE." + name, "$JS.API.STREAM.DELETE." + name, "$JS.API.STREAM.MSG.DELETE." + name, "$JS.API.STREAM.UPDATE." + name,
			"$JS.API.STREAM.INFO." + name, "$JS.API.STREAM.CREATE.COPY", "$JS.API.STREAM.SNAPSHOT." + name, "$JS.API.INFO", "$JS.ACK." + name + ".x.1.1.1.1.0",
			"tidings.auth", "tidings.disconnect", "tidings.acked.alice", "$SRV.PING", "_INBOX_gateway.x", "_INBOX.x",
		}, []string{
			">", "notify.>", "notify.user.alice", "tidings.auth", "tidings.>", "tidings.acked.*", "_INBOX_gateway.>", "_INBOX_operator.>", "_INBOX.>",
			"$JS.API.>", "$JS.EVENT.>", "$JS.EVENT.ADVISORY.API", "$SRV.PING",
		}},
		"responder": {[]string{
			"notify.user.alice", "notify.topic.all", "$JS.API.CONSUMER.CREATE." + name, "$JS.API.DIRECT.GET." + name, "$JS.API.STREAM.MSG.GET." + name,
			"$JS.API.STREAM.PURGE." + name, "$JS.API.STREAM.INFO." + name, "tidings.auth", "tidings.disconnect", "tidings.acked.alice", "_INBOX_gateway.x",
		}, []string{">", "notify.>", "tidings.>", "tidings.disconnect", "_INBOX_gateway.>", "_INBOX_publisher.>", "_INBOX.>", "$JS.EVENT.>"}},
		"gateway": {[]string{
			"$JS.API.STREAM.PURGE." + name, "$JS.API.STREAM.DELETE." + name, "$JS.API.STREAM.MSG.DELETE." + name, "$JS.API.STREAM.CREATE.COPY",
			"$JS.API.STREAM.INFO.OTHER", "$JS.API.CONSUMER.CREATE.OTHER.x", "_INBOX_publisher.x", "_INBOX.x", "other",
		}, []string{"tidings.auth", "tidings.>", "notify.>", "_INBOX_publisher.>", "_INBOX.>", ">"}},
		"operator": {[]string{
			"$JS.API.STREAM.CREATE." + name, "$JS.API.STREAM.UPDATE." + name, "$JS.API.STREAM.RESTORE." + name, "$JS.API.STREAM.DELETE." + name,
			"$JS.API.STREAM.CREATE.COPY", "$JS.API.STREAM.DELETE.OTHER", "$JS.API.CONSUMER.CREATE." + name, "$JS.API.CONSUMER.CREATE." + name + ".x.notify.user.alice",
			"$JS.API.CONSUMER.DURABLE.CREATE." + name + ".x", "$JS.API.CONSUMER.MSG.NEXT." + name + ".user-alice", "$JS.API.CONSUMER.RESET." + name + ".user-alice",
			"$JS.API.DIRECT.GET." + name, "$JS.API.DIRECT.GET." + name + ".notify.user.alice",
			"notify.user.alice", "tidings.auth", "tidings.acked.alice", "_INBOX_gateway.x", "other",
		}, []string{"tidings.auth", "tidings.>", "notify.>", "_INBOX_gateway.>", "_INBOX_publisher.>", "_INBOX.>", ">"}},
	} {
		nc, denied := server.as(user)
		try := func(verb, subject string, do func(subject string) error) {
			t.Helper()
			if err := errors.Join(do(subject), nc.Flush()); err != nil {
				t.Fatal(err)
			}
			// NATS has said so before the answer to the flush, where it did.
			if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
				t.Errorf("%s may %s %s", user, verb, subject)
				return
			}
			within(t, "complaint", denied)
		}
		for _, subject := range may.not {
			try("publish to", subject, func(subject string) error { return nc.Publish(subject, nil) })
		}
		for _, subject := range may.subscribe {
			try("subscribe to", subject, func(subject string) error { _, err := nc.SubscribeSync(subject); return err })
		}
	}

	// A publisher cannot make the stream do it either: the stream sends its acknowledgement to any reply subject that the message names.
	backend, _ := server.as("publisher")
	publisher, err := streams.NewPublisher(backend, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := publisher.User(t.Context(), "alice", streams.Notification{}); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(gateway)
	if err != nil {
		t.Fatal(err)
	}
	position, err := js.CreateConsumer(t.Context(), name, jetstream.ConsumerConfig{
		Durable: "user-alice", FilterSubject: "notify.user.alice", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := stream.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	audit, err := admin.SubscribeSync("$JS.EVENT.ADVISORY.API")
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Flush(); err != nil {
		t.Fatal(err)
	}
	tricks := []string{
		"$JS.API.STREAM.PURGE." + name, "$JS.API.STREAM.MSG.DELETE." + name, "$JS.API.STREAM.UPDATE." + name, "$JS.API.STREAM.DELETE." + name,
	}
	// A request to move a position is told to nobody, so it comes first: what follows shows that it was there. Had it a reply, it would be a good one.
	for _, trick := range slices.Concat([]string{"$JS.API.CONSUMER.RESET." + name + ".user-alice"}, tricks) {
		if err := backend.PublishRequest("notify.user.alice", trick, nil); err != nil {
			t.Fatal(err)
		}
	}
	var tried []string
	for len(tried) < len(tricks) {
		msg, err := audit.NextMsg(longer)
		if err != nil {
			t.Fatalf("the server tells of %v only: %v", tried, err)
		}
		told := string(msg.Data)
		i := slices.IndexFunc(tricks, func(trick string) bool { return strings.Contains(told, trick) })
		if i < 0 { // of what came before
			continue
		}
		if tried = append(tried, tricks[i]); !strings.Contains(told, `\"error\"`) {
			t.Errorf("not refused: %s", told)
		}
	}
	after, err := stream.State(t.Context())
	if err != nil || after.First != before.First || after.Msgs != before.Msgs+uint64(len(tricks))+1 || after.Epoch != before.Epoch {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	if info, err := position.Info(t.Context()); err != nil || info.AckFloor.Stream != 0 {
		t.Errorf("alice's position was moved: %+v, %v", info, err)
	}
}

// An operator does not have the stream record tokens either. To change it he may not, nor have a message that is such a request be sent to
// where requests go: a publisher may have stored one for him.
func TestOperatorsDoNotRecordTokens(t *testing.T) {
	t.Parallel()
	server := runGuarded(t)
	gateway, _ := server.as("gateway")
	if _, err := streams.Open(t.Context(), gateway, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	config := func() (c struct{ Config map[string]any }) {
		t.Helper()
		reply, err := gateway.Request("$JS.API.STREAM.INFO."+streams.DefaultName, nil, longer)
		if err := errors.Join(err, json.Unmarshal(reply.Data, &c)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := config()
	wanted := maps.Clone(before.Config)
	wanted["subjects"] = []string{"notify.user.*", "notify.topic.*", "tidings.auth"}
	update, err := json.Marshal(wanted)
	if err != nil {
		t.Fatal(err)
	}
	backend, _ := server.as("publisher")
	if _, err := backend.Request("notify.user.alice", update, longer); err != nil {
		t.Fatal(err)
	}
	operator, _ := server.as("operator")
	const updates = "$JS.API.STREAM.UPDATE." + streams.DefaultName
	for what, err := range map[string]error{
		"change":   operator.PublishRequest(updates, "_INBOX_operator.x", update),
		"get":      operator.PublishRequest("$JS.API.STREAM.MSG.GET."+streams.DefaultName, updates, []byte(`{"seq":1}`)),
		"direct":   operator.PublishRequest("$JS.API.DIRECT.GET."+streams.DefaultName, updates, []byte(`{"seq":1}`)),
		"last":     operator.PublishRequest("$JS.API.DIRECT.GET."+streams.DefaultName+".notify.user.alice", updates, nil),
		"consume":  operator.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+streams.DefaultName+".user-alice", updates, nil),
		"push":     operator.PublishRequest("$JS.API.CONSUMER.CREATE."+streams.DefaultName, "_INBOX_operator.x", []byte(`{"stream_name":"`+streams.DefaultName+`","config":{"deliver_subject":"`+updates+`","ack_policy":"none","deliver_policy":"all"}}`)),
		"snapshot": operator.PublishRequest("$JS.API.STREAM.SNAPSHOT."+streams.DefaultName, "_INBOX_operator.x", []byte(`{"deliver_subject":"`+updates+`"}`)),
	} {
		if err := errors.Join(err, operator.Flush()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	// A request of a trick may be on its way still; one from the same connection, which is allowed, is answered behind it.
	if _, err := operator.Request("$JS.API.STREAM.INFO."+streams.DefaultName, nil, longer); err != nil {
		t.Fatal(err)
	}
	if after := config(); !reflect.DeepEqual(after.Config, before.Config) {
		t.Errorf("the stream is %v now", after.Config)
	}
}
