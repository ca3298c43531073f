package streams_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// tailHost is the node with the tail's consumer.
func (g *gateway) tailHost() (node int) {
	g.Helper()
	for info := range g.jetstream().ListConsumers(testContext(g, patience)).Info() {
		if strings.HasPrefix(info.Name, "tidings-") {
			if _, err := fmt.Sscanf(info.Cluster.Leader, "n%d", &node); err != nil {
				g.Fatal(err)
			}
			return node
		}
	}
	g.Fatal("the tail has no consumer")
	return 0
}

// directGets says how many messages of a subject a replica gives, whichever the server asks.
func directGets(t *testing.T, nc *nats.Conn, subject string) (n int) {
	t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	request := fmt.Sprintf(`{"seq":1,"next_by_subj":%q,"batch":1000}`, subject)
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+streams.DefaultName, inbox, []byte(request)); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Header.Get(jetstream.SequenceHeader) == "" {
			return n
		}
		n++
	}
}

// A replica that lags answers a third of the direct gets none the less, and says of what it has not got that there is no more.
func TestALaggingReplicaEndsNoColdRead(t *testing.T) {
	streamstest.BesideOthers(t)
	c := streamstest.RunCluster(t, 3, streamstest.WithRouteProxies())
	open(t, c.Connect(t), replicated)
	nc := streamstest.Connect(t, c.Node(c.StreamLeader(streams.DefaultName)).URL(), nats.IgnoreDiscoveredServers())
	g := run(t, nc, replicated, streams.TailConfig{MaxBytes: 16 << 10}) // which hold only the newest
	c.SettleDirectGets(streams.DefaultName)
	late := c.Followers(streams.DefaultName)
	if late[0] == g.tailHost() { // the Tail would lag with it
		late = late[1:]
	}
	for _, proxy := range c.Routes(late[0]) {
		proxy.Slow(30_000) // bytes per second; 10 s behind
	}
	const few = 20
	bulk := strings.Repeat("x", 1000)
	for i := range 300 {
		g.publish("bulk", bulk)
		if i%15 == 0 {
			g.publish("a", fmt.Sprint(i))
		}
	}
	subject := userSubject(t, "a")
	short := func() bool {
		for range 20 {
			if directGets(t, nc, subject) < few {
				return true
			}
		}
		return false
	}
	lagged := 0
	for ; lagged < 20; lagged++ {
		st := g.mark()
		<-g.tail.Reached(st.Epoch, st.Last)
		sources := []streams.Source{{Subject: subject}}
		for i := range 20 * (lagged % 2) { // so many that it is asked first which have anything to read
			sources = append(sources, streams.Source{Subject: topicSubject(t, fmt.Sprint("of which nothing is said ", i))})
		}
		r, err := g.tail.Reader(st, 0, sources)
		if err != nil {
			t.Fatal(err)
		}
		var got []streams.Entry
		for err := errors.New("unread"); err != nil; { // an error is a replica that was found out
			var more []streams.Entry
			more, err = r.Read(t.Context(), nil, 1000)
			got = append(got, more...)
		}
		if len(got) != few || r.Position() < st.Last {
			t.Fatalf("%d of %d messages, position %d of %d", len(got), few, r.Position(), st.Last)
		}
		r.Close()
		if pages := g.newest(subject, few/2, 1<<20); len(pages) != 2 || len(pages[0]) != few/2 || len(pages[1]) != few/2 {
			t.Fatalf("pages %v", pages)
		}
		if !short() {
			break
		}
	}
	if lagged < 5 {
		t.Errorf("no replica lags after %d reads", lagged)
	}
	t.Logf("%d reads while a replica lagged", lagged)
}
