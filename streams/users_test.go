package streams_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func (d desk) users() (all []string) {
	d.Helper()
	list, err := d.stream.Users().List(testContext(d, patience))
	if err != nil {
		d.Fatal(err)
	}
	for _, st := range list {
		all = append(all, fmt.Sprintf("%s %d/%d", st.CursorID, st.Seq, st.Unread))
	}
	return all
}

func TestUsers(t *testing.T) {
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{})
	ctx := testContext(t, patience)
	if all := d.users(); len(all) != 0 {
		t.Errorf("nobody: %q", all)
	}
	d.publish("bob", "1")
	d.publish("alice", "2")
	d.publish("bob", "3")
	for _, id := range []streams.CursorID{{User: "bob"}, {User: "alice", Device: "b"}, {User: "alice"}, {User: "alice", Device: "a"}, {User: "a.b"}} {
		st := d.attach(id)
		d.Ack(id, st.Epoch, 1)
		d.Detach(id, st.Epoch)
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	want := "a.b 1/0; alice 1/1; alice@a 1/1; alice@b 1/1; bob 1/1"
	if got := strings.Join(d.users(), "; "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}

	find := func(user, device string) (streams.CursorState, bool) {
		t.Helper()
		st, epoch, found, err := d.stream.Users().Find(ctx, streams.CursorID{User: user, Device: device})
		if err != nil || epoch != d.mark().Epoch {
			t.Fatalf("%s@%s: epoch %s, %v", user, device, epoch, err)
		}
		return st, found
	}
	if st, found := find("bob", ""); !found || st.Seq != 1 || st.Unread != 1 || st.Over {
		t.Errorf("bob: %t, %+v", found, st)
	}
	if st, found := find("alice", "b"); !found || st.Seq != 1 || st.Unread != 1 {
		t.Errorf("alice@b: %t, %+v", found, st)
	}
	for _, id := range []streams.CursorID{{User: "carol"}, {User: "bob", Device: "b"}} {
		if st, found := find(id.User, id.Device); found {
			t.Errorf("%s: %+v", id, st)
		}
	}

	cursors, messages, err := d.stream.Users().Forget(ctx, "alice", false)
	if err != nil || cursors != 3 || messages != 0 {
		t.Errorf("forgot %d and %d, %v", cursors, messages, err)
	}
	if got := strings.Join(d.users(), "; "); got != "a.b 1/0; bob 1/1" {
		t.Errorf("left: %s", got)
	}
	r := d.userReader(0, "bob")
	cursors, messages, err = d.stream.Users().Forget(ctx, "bob", true)
	if err != nil || cursors != 1 || messages != 2 {
		t.Errorf("forgot %d and %d, %v", cursors, messages, err)
	}
	streamstest.Eventually(t, patience, func() error {
		if got := data(d.read(d.userReader(0, "bob"))); len(got) > 0 {
			return fmt.Errorf("memory has %q", got)
		}
		return nil
	})
	d.wants(r)
	d.wants(d.userReader(0, "alice"), "2")
	if cursors, messages, err = d.stream.Users().Forget(ctx, "nobody", true); err != nil || cursors+int(messages) != 0 {
		t.Errorf("nobody: %d and %d, %v", cursors, messages, err)
	}
	if _, _, err = d.stream.Users().Forget(ctx, "", true); !errors.Is(err, streams.ErrBadName) {
		t.Error(err)
	}
}

// More users than NATS lists at once.
func TestListPages(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("TIDINGS_LONG=1 runs it")
	}
	d := runCursors(t, streamstest.Run(t).Connect(t), streams.CursorsConfig{})
	for i := range 600 {
		d.attach(streams.CursorID{User: fmt.Sprint(i)})
	}
	if n := len(d.users()); n != 600 {
		t.Errorf("%d users", n)
	}
}

// The janitor takes cursors that hold nothing any more, and only when they have for long.
func TestJanitor(t *testing.T) {
	t.Parallel()
	const maxAge = 2 * time.Second
	s := streamstest.Run(t)
	g := run(t, s.Connect(t), streams.Config{MaxAge: maxAge}, streams.TailConfig{Poll: 50 * time.Millisecond})
	d := desk{g, streams.NewCursors(g.tail, streams.CursorsConfig{Interval: time.Millisecond})}
	start(t, d.Run)
	janitor := streams.NewJanitor(d.stream, zerolog.Nop())
	sweep := func() int {
		t.Helper()
		n, err := janitor.Sweep(testContext(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	id := func(user string) streams.CursorID { return streams.CursorID{User: user} }
	for _, user := range []string{"gone", "moves", "caught up", "back"} {
		st := d.attach(id(user))
		d.publish(user, "x")
		if user == "caught up" {
			d.Ack(id(user), st.Epoch, d.publish("other", "x"))
		}
		d.Detach(id(user), st.Epoch)
	}
	if n := sweep(); n != 0 {
		t.Errorf("%d were removed while their messages are there", n)
	}
	gone := func() { // the stream's first message moves past all that was published
		t.Helper()
		seq := d.publish("other", "x")
		streamstest.Eventually(t, patience, func() error {
			if st := d.mark(); st.First <= seq {
				return fmt.Errorf("the first is %d", st.First)
			}
			return nil
		})
	}
	gone()
	caught := d.attach(id("caught up"))
	d.Ack(id("caught up"), caught.Epoch, d.publish("other", "x"))
	if err := d.Flush(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	if n := sweep(); n != 0 {
		t.Errorf("%d were removed at once", n)
	}
	info, err := d.consumer(id("gone"))
	if err != nil || info.Config.Metadata["stale"] == "" || info.Config.Metadata["user"] != "gone" {
		t.Errorf("not marked: %+v, %v", info, err)
	}
	if info, err := d.consumer(id("caught up")); err != nil || info.Config.Metadata["stale"] != "" {
		t.Errorf("marked: %+v, %v", info, err)
	}
	if n := sweep(); n != 0 {
		t.Errorf("%d were removed too early", n)
	}
	// Marked, but one moves, and yet lies before the first when the other is taken.
	st := d.attach(id("moves"))
	d.Ack(id("moves"), st.Epoch, st.Seq+1)
	d.Detach(id("moves"), st.Epoch)
	if err := d.Flush(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	d.Ack(id("caught up"), caught.Epoch, d.publish("other", "x"))
	gone()
	streamstest.Eventually(t, patience, func() error {
		if n := sweep(); n == 0 {
			return errors.New("nobody was removed")
		}
		return nil
	})
	var left []string
	for _, user := range d.users() {
		left = append(left, strings.Fields(user)[0])
	}
	if got := strings.Join(left, " "); got != "caught moves" {
		t.Errorf("left: %s", got)
	}
}

// Cursors of an epoch that is over go too, in time.
func TestJanitorAfterAnEpoch(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t)
	g := run(t, s.Connect(t), streams.Config{MaxAge: time.Second}, streams.TailConfig{Poll: 50 * time.Millisecond})
	d := desk{g, streams.NewCursors(g.tail, streams.CursorsConfig{})}
	st := d.attach(alice)
	d.Detach(alice, st.Epoch)
	if _, err := d.stream.NewEpoch(testContext(t, patience)); err != nil {
		t.Fatal(err)
	}
	janitor := streams.NewJanitor(d.stream, zerolog.Nop())
	if n, err := janitor.Sweep(testContext(t, patience)); n != 0 || err != nil {
		t.Errorf("removed at once: %d, %v", n, err)
	}
	streamstest.Eventually(t, patience, func() error {
		n, err := janitor.Sweep(testContext(t, patience))
		if n == 0 || err != nil {
			return fmt.Errorf("nobody was removed: %w", err)
		}
		return nil
	})
}

func TestJanitorEnds(t *testing.T) {
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{})
	start(t, streams.NewJanitor(g.stream, zerolog.Nop()).Run)
}
