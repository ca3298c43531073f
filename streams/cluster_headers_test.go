package streams_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// On a replicated stream, replays end although the newest message, by which a replica proves that it lacks nothing, has a header block that
// nobody can read, and although all of a user's messages have.
func TestUnreadableHeadersInACluster(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("a cluster takes seconds to start: set TIDINGS_LONG=1")
	}
	c := streamstest.RunCluster(t, 3)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	g := run(t, c.Connect(t, quiet), replicated, streams.TailConfig{MaxBytes: 1000})
	c.SettleDirectGets(streams.DefaultName)
	raw, err := streamstest.DialRaw(c.Node(0).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	const block = "NATS/1.0\r\nTidings-Kind: a\nb\r\n\r\n"
	var want []string
	for range 300 {
		if err := raw.Publish("notify.user.a", block, "x"); err != nil {
			t.Fatal(err)
		}
		want = append(want, "x")
	}
	if err := raw.Publish("notify.user.newest", block, ""); err != nil {
		t.Fatal(err)
	}
	if err := raw.Flush(); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error { return stored(g, 301) })
	for _, user := range []string{"a", "nobody", "newest"} {
		r := g.userReader(0, user)
		g.reached()
		var got []streams.Entry
		streamstest.Eventually(t, patience, func() error { // a replica may lag
			more, err := r.Read(testContext(t, patience), nil, 1000)
			got = append(got, more...)
			return err
		})
		if have := data(got); user == "a" && !slices.Equal(have, want) || user == "nobody" && len(have) != 0 || user == "newest" && len(have) != 1 {
			t.Errorf("%s reads %q", user, have)
		}
	}
	if pages := g.newest("notify.user.a", 200, 1<<20); len(pages) != 2 || len(pages[1]) != 100 {
		t.Errorf("pages of %d", len(pages))
	}
}

func stored(g *gateway, n uint64) error {
	st, err := g.stream.State(g.Context())
	if err == nil && st.Last < n {
		err = streams.ErrReplaced
	}
	return err
}
