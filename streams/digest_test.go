package streams_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// An id that is used again is a duplicate if it is the same notification, and an error if it is another.
func TestAnIDUsedAgain(t *testing.T) {
	t.Parallel()
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{})
	ctx := testContext(t, patience)
	first := streams.Notification{ID: "ord-991", Kind: "order.shipped", ContentType: "text/plain", Data: []byte(`{"order":991}`), TTL: time.Hour}
	receipt, err := g.pub.User(ctx, "alice", first)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(n *streams.Notification)
		same   bool
	}{
		"nothing":          {func(*streams.Notification) {}, true},
		"what is left":     {func(n *streams.Notification) { n.TTL = 59 * time.Minute }, true},
		"another trace":    {func(n *streams.Notification) { n.Traceparent = "00-x" }, true},
		"other data":       {func(n *streams.Notification) { n.Data = []byte(`{"order":992}`) }, false},
		"no data":          {func(n *streams.Notification) { n.Data = nil }, false},
		"another kind":     {func(n *streams.Notification) { n.Kind = "order.lost" }, false},
		"no kind":          {func(n *streams.Notification) { n.Kind = "" }, false},
		"another type":     {func(n *streams.Notification) { n.ContentType = "" }, false},
		"a shifted border": {func(n *streams.Notification) { n.Kind, n.ContentType = "order.shippedtext/", "plain" }, false},
	} {
		n := first
		c.change(&n)
		again, err := g.pub.User(ctx, "alice", n)
		if c.same && (err != nil || again != (streams.Receipt{Seq: receipt.Seq, ID: first.ID, Duplicate: true})) {
			t.Errorf("%s: %+v, %v", what, again, err)
		}
		if !c.same && (!errors.Is(err, streams.ErrConflict) || !strings.Contains(err.Error(), `"ord-991", at seq 1`)) {
			t.Errorf("%s: %+v, %v", what, again, err)
		}
	}
	// For others the id is free.
	if r, err := g.pub.User(ctx, "bob", streams.Notification{ID: first.ID}); err != nil || r.Duplicate {
		t.Errorf("another user: %+v, %v", r, err)
	}
	if st, err := g.stream.State(ctx); err != nil || st.Msgs != 2 {
		t.Errorf("%d messages are stored, %v", st.Msgs, err)
	}
}

// What the original said is not always known: then a duplicate is one, whatever it says.
func TestAnIDUsedAgainOfWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t)
	g := open(t, s.Connect(t), streams.Config{})
	ctx := testContext(t, patience)
	plain := nats.NewMsg(userSubject(t, "alice"))
	plain.Header.Set(jetstream.MsgIDHeader, "user.alice.plain")
	if _, err := g.js.PublishMsg(ctx, plain); err != nil {
		t.Fatal(err)
	}
	deleted := g.send("alice", streams.Notification{ID: "deleted"})
	if err := g.jetstream().DeleteMsg(ctx, deleted); err != nil {
		t.Fatal(err)
	}
	raw, err := streamstest.DialRaw(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	header := "NATS/1.0\r\nNats-Msg-Id: user.alice.broken\r\nTidings-Digest: other\r\nTidings-Kind: a\nb\r\n\r\n"
	if err := raw.Publish(plain.Subject, header, ""); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		if st, err := g.stream.State(ctx); err != nil || st.Last != deleted+1 {
			return fmt.Errorf("at %d, %v", st.Last, err)
		}
		return nil
	})
	for _, id := range []string{"plain", "deleted", "broken"} {
		if r, err := g.pub.User(ctx, "alice", streams.Notification{ID: id, Data: []byte("other")}); err != nil || !r.Duplicate || !r.Unchecked {
			t.Errorf("%s: %+v, %v", id, r, err)
		}
	}
}

// A publisher that may do nothing else gets its answer at once, and asks for what is forbidden once.
func TestAnIDUsedAgainWithoutTheRightToRead(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t, streamstest.WithConfig(`
		authorization { users = [
			{user: all, password: all}
			{user: publisher, password: x, permissions: {publish: "notify.>", subscribe: "_INBOX.>"}}
		] }`))
	open(t, s.Connect(t, nats.UserInfo("all", "all")), streams.Config{})
	var denied atomic.Int32
	count := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { denied.Add(1) })
	pub, err := streams.NewPublisher(s.Connect(t, nats.UserInfo("publisher", "x"), count), streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		r, err := pub.User(testContext(t, patience), "alice", streams.Notification{ID: "x", Data: fmt.Append(nil, i)})
		if err != nil || r.Seq != 1 || r.Duplicate != (i > 0) || r.Unchecked != (i > 0) {
			t.Errorf("%d: %+v, %v", i, r, err)
		}
	}
	streamstest.Eventually(t, patience, func() error {
		if n := denied.Load(); n != 1 {
			return fmt.Errorf("%d requests were denied", n)
		}
		return nil
	})
}

// So does one in an account that only imports the subjects.
func TestAnIDUsedAgainFromAnotherAccount(t *testing.T) {
	t.Parallel()
	for _, jetStream := range []string{"", "jetstream: enabled, "} {
		s := streamstest.Run(t, streamstest.WithConfig(`accounts {
			APP { jetstream: enabled, users: [{user: app, password: x}], exports: [{service: "notify.>"}] }
			SHOP { `+jetStream+`users: [{user: shop, password: x}], imports: [{service: {account: APP, subject: "notify.>"}}] }
		}`))
		open(t, s.Connect(t, nats.UserInfo("app", "x")), streams.Config{})
		pub, err := streams.NewPublisher(s.Connect(t, nats.UserInfo("shop", "x")), streams.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			r, err := pub.User(testContext(t, patience), "alice", streams.Notification{ID: "x", Data: fmt.Append(nil, i)})
			if err != nil || r.Seq != 1 || r.Duplicate != (i > 0) || r.Unchecked != (i > 0) {
				t.Errorf("%q, %d: %+v, %v", jetStream, i, r, err)
			}
		}
	}
}
