package streams_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestEncodeToken(t *testing.T) {
	for name, want := range map[string]string{
		"alice":                    "alice",
		"a.b@x.com":                "a%2Eb%40x%2Ecom",
		"Alice-1_2":                "Alice-1_2",
		"*":                        "%2A",
		">":                        "%3E",
		" ":                        "%20",
		"\r\n":                     "%0D%0A",
		"\x00":                     "%00",
		"%41":                      "%2541",
		"é":                        "%C3%A9",
		"😀":                        "%F0%9F%98%80",
		strings.Repeat("A", 200):   strings.Repeat("A", 200),
		strings.Repeat("😀", 16):    strings.Repeat("%F0%9F%98%80", 16),
		strings.Repeat("x.", 50):   strings.Repeat("x%2E", 50),
		"/":                        "%2F",
		"../../etc/passwd":         "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd",
		"tidings.user/x?y#z&a=b+c": "tidings%2Euser%2Fx%3Fy%23z%26a%3Db%2Bc",
	} {
		got, err := streams.EncodeToken(name)
		if err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", name, got, err, want)
		}
		if back, err := streams.DecodeToken(want); err != nil || back != name {
			t.Errorf("%q is decoded as %q (%v), want %q", want, back, err, name)
		}
	}
	for _, name := range []string{
		"", "\xff", "a\xc3", "\xed\xa0\x80", strings.Repeat("x", 201), strings.Repeat("x", 300), strings.Repeat("😀", 17),
	} {
		if got, err := streams.EncodeToken(name); !errors.Is(err, streams.ErrBadName) {
			t.Errorf("%q is %q, want ErrBadName", name, got)
		}
	}
	for _, token := range []string{
		"", "%", "%4", "a%", "%4g", "%zz", "%41", "%2e", "a.b", "*", "a b", "é", "%FF", strings.Repeat("x", 201), "%2E%2",
	} {
		if got, err := streams.DecodeToken(token); !errors.Is(err, streams.ErrBadName) {
			t.Errorf("%q is decoded as %q, want ErrBadName", token, got)
		}
	}
}

func TestConsumerName(t *testing.T) {
	for id, want := range map[streams.CursorID]string{
		{User: "alice"}:                    "user-alice",
		{User: "alice", Device: "phone"}:   "user-alice@phone",
		{User: "Alice"}:                    "user-%41lice",
		{User: "alice@phone"}:              "user-alice%40phone",
		{User: "a.b", Device: "X"}:         "user-a%2Eb@%58",
		{User: strings.Repeat("x", 195)}:   "user-" + strings.Repeat("x", 195),
		{User: "h"}:                        "user-h",
		{User: "42", Device: "h-4"}:        "user-42@h-4",
		{User: "h", Device: "-"}:           "user-h@-",
		{User: "x", Device: "%"}:           "user-x@%25",
		{User: "\x00", Device: "\x00\x00"}: "user-%00@%00%00",
	} {
		if got, err := streams.ConsumerName(id); err != nil || got != want {
			t.Errorf("%q is %q (%v), want %q", id, got, err, want)
		}
	}
	// Too long, or like one that is: a hash, and each its own.
	long := strings.Repeat("l", 120)
	seen := map[string]streams.CursorID{}
	for _, id := range []streams.CursorID{
		{User: strings.Repeat("A", 84)}, {User: strings.Repeat("a", 84) + strings.Repeat("Ä", 19)}, {User: strings.Repeat("x", 196)},
		{User: "h-"}, {User: "h-x"}, {User: "h-", Device: "x"}, {User: "h-x", Device: "y"},
		{User: long + "\x00" + "a", Device: long}, {User: long, Device: "a\x00" + long}, {User: long, Device: "a" + long},
		{User: long, Device: long}, {User: long + long[:79]},
	} {
		name, err := streams.ConsumerName(id)
		if err != nil || !strings.HasPrefix(name, "user-h-") || len(name) != 59 {
			t.Errorf("%q is %q (%v), want a hash", id, name, err)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q are both %s", id, other, name)
		}
		seen[name] = id
	}
	for _, id := range []streams.CursorID{{}, {User: "\xff"}, {Device: "x"}, {User: "x", Device: "\xff"}, {User: "x", Device: strings.Repeat("x", 201)}} {
		if name, err := streams.ConsumerName(id); !errors.Is(err, streams.ErrBadName) {
			t.Errorf("%q is %q, want ErrBadName", id, name)
		}
	}
}

var (
	tokenPattern    = regexp.MustCompile(`^[A-Za-z0-9_%-]{1,200}$`)
	consumerPattern = regexp.MustCompile(`^user-[A-Za-z0-9_%@-]{1,250}$`)
)

func FuzzNames(f *testing.F) {
	for _, name := range oddNames {
		f.Add(name, "", name, "x")
		f.Add(name, name, strings.ToUpper(name), name)
	}
	f.Add("a", "b", "a@b", "")
	f.Add("h-x", "", "h", "-x")
	f.Fuzz(func(t *testing.T, user, device, otherUser, otherDevice string) {
		token, err := streams.EncodeToken(user)
		if err == nil {
			if back, err := streams.DecodeToken(token); err != nil || back != user || !tokenPattern.MatchString(token) {
				t.Errorf("%q is %q, and back %q (%v)", user, token, back, err)
			}
			if other, err := streams.EncodeToken(otherUser); err == nil && (other == token) != (user == otherUser) {
				t.Errorf("%q is %q, and %q is %q", user, token, otherUser, other)
			}
		}
		if back, err := streams.DecodeToken(user); err == nil {
			if again, err := streams.EncodeToken(back); err != nil || again != user {
				t.Errorf("%q is decoded as %q, and back as %q (%v)", user, back, again, err)
			}
		}
		id, other := streams.CursorID{User: user, Device: device}, streams.CursorID{User: otherUser, Device: otherDevice}
		name, err := streams.ConsumerName(id)
		if err != nil {
			return
		}
		if !consumerPattern.MatchString(name) {
			t.Errorf("%q is %q", id, name)
		}
		if otherName, err := streams.ConsumerName(other); err == nil && strings.EqualFold(name, otherName) != (id == other) {
			t.Errorf("%q is %q, and %q is %q", id, name, other, otherName)
		}
	})
}

// oddNames are users that somebody may have, or claim to be.
var oddNames = []string{
	"*", ">", "a.b", "a b", " ", "\r\n", "PUB x 1\r\ny", "\x00", "😀", "ß", "alice", "Alice", "ALICE", "alice@phone", "user.alice",
	"%2A", "%", "h-x", ".", "..", "/", `\`, "$JS.API.>", "_INBOX.x", strings.Repeat("A", 84), strings.Repeat("a", 200),
	strings.Repeat("é", 33), "\u202e", "é", "e\u0301",
}

// Each of them gets its own notifications and nobody else's, and its own cursor.
func TestOddNames(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{})
	cursors := streams.NewCursors(g.tail, streams.CursorsConfig{})
	start(t, cursors.Run)
	for i, name := range oddNames {
		g.publish(name, fmt.Sprint("user ", i))
		g.publishTopic(name, fmt.Sprint("topic ", i))
	}
	ctx := testContext(t, patience)
	for i, name := range oddNames {
		g.wants(g.userReader(0, name), fmt.Sprint("user ", i))
		g.wants(g.reader(0, streams.Source{Subject: topicSubject(t, name)}), fmt.Sprint("topic ", i))
		id := streams.CursorID{User: name}
		if i%2 == 1 {
			id.Device = name
		}
		st, err := cursors.Attach(ctx, id, g.mark(), math.MaxUint64)
		if err != nil || st.CursorID != id || st.Unread != 1 {
			t.Errorf("cursor of %q: %+v, %v", name, st, err)
		}
	}
	if info := g.jetstream().CachedInfo(); info.State.Consumers < len(oddNames) {
		t.Errorf("%d consumers for %d users", info.State.Consumers, len(oddNames))
	}
	// The same from the stream rather than from memory.
	cold := run(t, g.nc, streams.Config{}, streams.TailConfig{MaxBytes: 1})
	for i, name := range oddNames {
		cold.wants(cold.userReader(0, name), fmt.Sprint("user ", i))
	}
	for _, name := range []string{"", "\xff", strings.Repeat("x", 300)} {
		if _, err := g.pub.User(ctx, name, streams.Notification{}); !errors.Is(err, streams.ErrBadName) {
			t.Errorf("published to %q: %v", name, err)
		}
		if _, err := cursors.Attach(ctx, streams.CursorID{User: name}, g.mark(), math.MaxUint64); !errors.Is(err, streams.ErrBadName) {
			t.Errorf("cursor of %q: %v", name, err)
		}
	}
}

// A publisher that encodes in a way of its own is acknowledged by NATS; nobody can be listening.
func TestOddSubjectsAreLogged(t *testing.T) {
	var log syncBuffer
	s := streamstest.Run(t)
	g := run(t, s.Connect(t), streams.Config{}, streams.TailConfig{Logger: zerolog.New(&log)})
	r := g.userReader(0, "U")
	if _, err := g.nc.Request("notify.user.%55", []byte("x"), patience); err != nil {
		t.Fatal(err)
	}
	g.publish("U", "y")
	if got, err := g.next(r, patience); err != nil || got != "[y]" {
		t.Errorf("got %s: %v", got, err)
	}
	if !strings.Contains(log.String(), `"subject":"notify.user.%55"`) || strings.Contains(log.String(), `"notify.user.U"`) {
		t.Errorf("log: %s", log.String())
	}
}

// syncBuffer is what several goroutines may log to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
