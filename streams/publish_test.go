package streams_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// describe makes frames of all that a message says.
func describe(dst []byte, m *streams.Message) []byte {
	return fmt.Appendf(dst, "%d %s id=%s kind=%s type=%s topic=%s expires=%t data=%q",
		m.Seq, m.Subject, m.ID, m.Kind, m.ContentType, m.Topic(), !m.Expires.IsZero(), m.Data)
}

func TestPublish(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Encode: describe})
	ctx := testContext(t, patience)
	for _, c := range []struct {
		topic bool
		n     streams.Notification
		want  string
	}{
		{false, streams.Notification{ID: "1", Data: []byte("{}")}, `1 notify.user.a%2Eb id=1 kind= type= topic= expires=false data="{}"`},
		{true, streams.Notification{ID: "1", Kind: "k"}, `2 notify.topic.a%2Eb id=1 kind=k type= topic=a.b expires=false data=""`},
		{false, streams.Notification{
			ID: "ü x", Kind: "order.shipped", ContentType: "text/plain; charset=utf-8", TTL: 1500 * time.Millisecond * 1000, Traceparent: "00-ab-cd-01", Data: []byte{0, 255},
		}, `3 notify.user.a%2Eb id=ü x kind=order.shipped type=text/plain; charset=utf-8 topic= expires=true data="\x00\xff"`},
		{false, streams.Notification{ID: "user.a%2Eb.1"}, `4 notify.user.a%2Eb id=user.a%2Eb.1 kind= type= topic= expires=false data=""`},
		{false, streams.Notification{ID: strings.Repeat("i", 1024)}, "5 notify.user.a%2Eb id=" + strings.Repeat("i", 1024) + ` kind= type= topic= expires=false data=""`},
	} {
		publish := g.pub.User
		if c.topic {
			publish = g.pub.Topic
		}
		receipt, err := publish(ctx, "a.b", c.n)
		if err != nil || receipt.ID != c.n.ID || receipt.Duplicate || !strings.HasPrefix(c.want, fmt.Sprint(receipt.Seq, " ")) {
			t.Errorf("%+v, %v, want %s", receipt, err, c.want)
		}
		sources := []streams.Source{{Subject: userSubject(t, "a.b")}, {Subject: topicSubject(t, "a.b")}}
		last := g.reached()
		if got := frames(g.read(g.reader(last-1, sources...))); len(got) != 1 || got[0] != c.want {
			t.Errorf("read %q, want %q", got, c.want)
		}
	}
	msg, err := g.jetstream().GetMsg(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]string{
		"Nats-Msg-Id": "user.a%2Eb.ü x", "Nats-TTL": "25m0s", "Tidings-Kind": "order.shipped", "traceparent": "00-ab-cd-01",
	} {
		if got := msg.Header.Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	// An id is made where there is none.
	if a, err := g.pub.User(ctx, "x", streams.Notification{}); err != nil || a.ID == "" {
		t.Errorf("%+v, %v", a, err)
	}
}

// What any NATS client publishes is a notification.
func TestForeignMessages(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Encode: describe})
	cold := run(t, g.nc, streams.Config{}, streams.TailConfig{Encode: describe, MaxBytes: 1})
	publish := func(header nats.Header, data string) {
		t.Helper()
		if _, err := g.js.PublishMsg(testContext(t, patience), &nats.Msg{Subject: "notify.user.a", Header: header, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	publish(nil, `{"x":1}`)
	publish(nats.Header{"Nats-Msg-Id": {"foreign"}}, "")
	publish(nats.Header{"Nats-Msg-Id": {"user.a.7"}}, "")
	publish(nats.Header{"Nats-Msg-Id": {"user.a.8"}, "Tidings-Id": {"mine"}}, "")
	publish(nats.Header{"Nats-TTL": {"60"}}, "")
	publish(nats.Header{"Nats-TTL": {"never"}}, "")
	publish(nats.Header{"Nats-Sequence": {"1"}, "Nats-Subject": {"notify.user.b"}, "Nats-Last-Sequence": {"9"}, "Nats-Time-Stamp": {"x"}}, "forged")
	if err := g.nc.Publish("notify.user.*", []byte("to everybody?")); err != nil {
		t.Fatal(err)
	}
	publish(nil, "end")
	want := []string{
		`1 notify.user.a id= kind= type= topic= expires=false data="{\"x\":1}"`,
		`2 notify.user.a id=foreign kind= type= topic= expires=false data=""`,
		`3 notify.user.a id=7 kind= type= topic= expires=false data=""`,
		`4 notify.user.a id=mine kind= type= topic= expires=false data=""`,
		`5 notify.user.a id= kind= type= topic= expires=true data=""`,
		`6 notify.user.a id= kind= type= topic= expires=true data=""`,
		`7 notify.user.a id= kind= type= topic= expires=false data="forged"`,
		`9 notify.user.a id= kind= type= topic= expires=false data="end"`,
	}
	for what, g := range map[string]*gateway{"memory": g, "stream": cold} {
		g.reached()
		if got := frames(g.read(g.userReader(0, "a"))); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("from %s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Without data and with such headers, nats.go takes a message for a word of the server. It must not stop the others.
func TestMessagesLikeStatuses(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: 50 * time.Millisecond})
	cold := run(t, g.nc, streams.Config{}, streams.TailConfig{MaxBytes: 1})
	g.publish("a", "1")
	want := []string{"1"}
	for _, status := range []string{"503", "404", "204", "100"} {
		header := nats.Header{"Status": {status}, "Description": {"Consumer Deleted"}}
		if err := g.nc.PublishMsg(&nats.Msg{Subject: "notify.user.a", Header: header}); err != nil {
			t.Fatal(err)
		}
		g.publish("a", status)
		want = append(want, "", status)
	}
	g.wants(g.userReader(0, "a"), want...)
	cold.wants(cold.userReader(0, "a"), want...)
}

func TestDuplicates(t *testing.T) {
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{})
	ctx := testContext(t, patience)
	n := streams.Notification{ID: "ord-991", Data: []byte("x")}
	first, err := g.pub.User(ctx, "alice", n)
	if err != nil || first.Duplicate {
		t.Fatal(first, err)
	}
	again, err := g.pub.User(ctx, "alice", n)
	if err != nil || !again.Duplicate || again.Seq != first.Seq {
		t.Errorf("again: %+v, %v; at first %+v", again, err, first)
	}
	// To many users, each gets it, once.
	var users []string
	for i := range 1000 {
		users = append(users, fmt.Sprint("u", i), fmt.Sprint("u", i/2))
	}
	results := g.pub.Users(ctx, users, n)
	if len(results) != 1000 {
		t.Fatalf("%d results", len(results))
	}
	seqs := map[uint64]bool{}
	for i, r := range results {
		if r.User != users[2*i] && r.User != users[2*i+1] || r.Err != nil || r.Duplicate || r.ID != "ord-991" || seqs[r.Seq] {
			t.Fatalf("%d: %+v", i, r)
		}
		seqs[r.Seq] = true
	}
	for i, r := range g.pub.Users(ctx, users[:100], n) {
		if !r.Duplicate || r.Seq != results[i].Seq {
			t.Fatalf("again: %+v, at first %+v", r, results[i])
		}
	}
	// A user and a topic of one name are two.
	if r, err := g.pub.Topic(ctx, "alice", n); err != nil || r.Duplicate {
		t.Errorf("topic: %+v, %v", r, err)
	}
	// So are users whose scoped ids look alike.
	if r, err := g.pub.User(ctx, "alice.ord-991", streams.Notification{ID: "x"}); err != nil || r.Duplicate {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := g.pub.User(ctx, "alice", streams.Notification{ID: "ord-991.x"}); err != nil || r.Duplicate {
		t.Errorf("%+v, %v", r, err)
	}
	if results := g.pub.Users(ctx, nil, n); len(results) != 0 {
		t.Errorf("nobody: %v", results)
	}
	results = g.pub.Users(ctx, []string{"ok", "", "ok"}, streams.Notification{})
	if len(results) != 2 || results[0].Err != nil || !errors.Is(results[1].Err, streams.ErrBadName) {
		t.Errorf("%+v", results)
	}
}

func TestUnusableNotifications(t *testing.T) {
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{})
	ctx := testContext(t, patience)
	const most = streams.DefaultMaxNotification
	if _, err := g.pub.User(ctx, "a", streams.Notification{
		Data: make([]byte, most), ID: strings.Repeat("i", 1024), Kind: strings.Repeat("k", 1024), ContentType: strings.Repeat("c", 1024),
		Traceparent: strings.Repeat("t", 1024),
	}); err != nil {
		t.Errorf("the largest: %v", err)
	}
	if _, err := g.pub.User(ctx, "a", streams.Notification{Data: make([]byte, most+1)}); !errors.Is(err, streams.ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
	for _, bad := range []string{"a\r\nNats-TTL: 1s", "a\nb", "\x00", " a", "a ", "\ta", "a\t", "\u00a0a", "\x7f", "\xff", strings.Repeat("x", 1025)} {
		for what, n := range map[string]streams.Notification{
			"id": {ID: bad}, "kind": {Kind: bad}, "content type": {ContentType: bad}, "traceparent": {Traceparent: bad},
		} {
			if _, err := g.pub.User(ctx, "a", n); !errors.Is(err, streams.ErrBadNotification) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s %q: %v", what, bad, err)
			}
		}
	}
	for _, ttl := range []time.Duration{time.Second - 1, 1, -1, -time.Hour} {
		if _, err := g.pub.User(ctx, "a", streams.Notification{TTL: ttl}); !errors.Is(err, streams.ErrBadNotification) {
			t.Errorf("ttl %s: %v", ttl, err)
		}
	}
	// The stream knows better than the publisher's own setting.
	liberal, err := streams.NewPublisher(g.nc, streams.Config{MaxNotification: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := liberal.User(ctx, "a", streams.Notification{Data: make([]byte, most+16<<10)}); !errors.Is(err, streams.ErrTooLarge) {
		t.Errorf("more than the stream takes: %v", err)
	}
	if st, err := g.stream.State(ctx); err != nil || st.Msgs != 1 {
		t.Errorf("%d messages were stored, %v", st.Msgs, err)
	}
}

// What lived for its time is gone: from the stream, and from memory.
func TestTTL(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	g.publish("a", "stays")
	g.send("a", streams.Notification{Data: []byte("goes"), TTL: time.Second})
	g.send("a", streams.Notification{Data: []byte("lives"), TTL: time.Hour})
	g.wants(g.userReader(0, "a"), "stays", "goes", "lives")
	streamstest.Eventually(t, patience, func() error {
		if got := data(g.read(g.userReader(0, "a"))); fmt.Sprint(got) != "[stays lives]" {
			return fmt.Errorf("memory has %q", got)
		}
		return nil
	})
	streamstest.Eventually(t, patience, func() error {
		if got := g.stored(0, userSubject(t, "a")); len(got) != 2 {
			return fmt.Errorf("the stream has %q", got)
		}
		return nil
	})
}

func TestPublishWithoutStream(t *testing.T) {
	t.Parallel()
	nc := streamstest.Run(t).Connect(t)
	pub, err := streams.NewPublisher(nc, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = pub.User(testContext(t, 700*time.Millisecond), "a", streams.Notification{})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, jetstream.ErrNoStreamResponse) ||
		!strings.Contains(err.Error(), "no stream takes it") || time.Since(began) > 5*time.Second {
		t.Errorf("no stream, after %s: %v", time.Since(began), err)
	}
	// The stream comes while somebody publishes.
	made := make(chan error, 1)
	go func() {
		_, err := streams.Open(t.Context(), nc, streams.Config{})
		made <- err
	}()
	if _, err := pub.User(testContext(t, patience), "a", streams.Notification{}); err != nil {
		t.Error(err)
	}
	if err := <-made; err != nil {
		t.Error(err)
	}
	// The name is that of another stream.
	other, err := streams.NewPublisher(nc, streams.Config{Name: "OTHER"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.User(testContext(t, patience), "a", streams.Notification{}); err == nil || !strings.Contains(err.Error(), "expected stream") {
		t.Errorf("another stream: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pub.User(ctx, "a", streams.Notification{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Every notification that is published while servers die is stored exactly once.
func TestPublishWhileServersDie(t *testing.T) {
	t.Parallel()
	p := streamstest.RunProcess(t)
	nc := p.Connect(t)
	g := open(t, nc, streams.Config{})
	stop := make(chan struct{})
	var publishers sync.WaitGroup
	var mu sync.Mutex
	receipts := map[uint64]string{}
	for i := range 8 {
		publishers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				data := fmt.Sprintf("%d/%d", i, n)
				receipt, err := g.pub.User(testContext(t, patience), fmt.Sprint(i), streams.Notification{Data: []byte(data)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				receipts[receipt.Seq] = data
				mu.Unlock()
			}
		})
	}
	for range 3 {
		mu.Lock()
		have := len(receipts)
		mu.Unlock()
		streamstest.Eventually(t, patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			if len(receipts) < have+200 {
				return errors.New("nothing is published")
			}
			return nil
		})
		p.Kill()
		p.Restart()
	}
	close(stop)
	publishers.Wait()
	st, err := g.stream.State(testContext(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if st.Msgs != uint64(len(receipts)) {
		t.Errorf("%d were acknowledged, %d are stored", len(receipts), st.Msgs)
	}
	stream := g.jetstream()
	for seq, want := range receipts {
		msg, err := stream.GetMsg(testContext(t, patience), seq)
		if err != nil || !bytes.Equal(msg.Data, []byte(want)) {
			t.Fatalf("at %d: %v, want %s", seq, err, want)
		}
	}
}
