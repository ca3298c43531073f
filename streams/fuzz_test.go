package streams

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// What a message says of its own end, any NATS client may have written.
func FuzzExpires(f *testing.F) {
	for _, ttl := range []string{
		"", "never", "NEVER", "1", "0", "-1", "1s", "999ms", "1.9s", "24h", "1h30m", "1e3", "+5", "007", " 5", "5 ", "9223372036854775807",
		"9223372036", "9223372036s", "2562047h47m16.854775807s", "99999999999999999999", "0x10", "1_000", "١", "s", ".s", "\x00",
	} {
		f.Add(ttl)
	}
	stored := time.Date(2026, 11, 22, 17, 55, 19, 123456789, time.UTC)
	f.Fuzz(func(t *testing.T, ttl string) {
		got := parseExpires(stored, ttl)
		if ttl == "" && !got.IsZero() {
			t.Fatalf("without a TTL it ends at %s", got)
		}
		if !got.IsZero() && got.Before(stored.Add(time.Second)) {
			t.Fatalf("%q ends at %s, before it has lasted a second", ttl, got)
		}
		seconds, accepted := serverTTL(ttl)
		switch {
		case !accepted: // such a message is never stored
		case seconds < 0:
			if !got.Equal(never) {
				t.Fatalf("%q ends at %s, though it never should", ttl, got)
			}
		case seconds > (math.MaxInt64-stored.UnixNano())/int64(time.Second)-1: // past what a time can hold
			if !got.IsZero() && got.Before(stored.Add(200*365*24*time.Hour)) {
				t.Fatalf("%q ends at %s", ttl, got)
			}
		default:
			if want := stored.Add(time.Duration(seconds) * time.Second); !got.Equal(want) {
				t.Fatalf("%q ends at %s, with the server at %s", ttl, got, want)
			}
		}
	})
}

// serverTTL is parseMessageTTL of nats-server 2.15.2, which it does not export: seconds, -1 for never.
func serverTTL(ttl string) (seconds int64, accepted bool) {
	if strings.ToLower(ttl) == "never" {
		return -1, true
	}
	if d, err := time.ParseDuration(ttl); err == nil {
		return int64(d.Seconds()), d >= time.Second
	}
	if ttl == "" || len(ttl) > 18 || strings.Trim(ttl, "0123456789") != "" {
		return 0, false
	}
	for _, digit := range ttl {
		seconds = 10*seconds + int64(digit-'0')
	}
	return seconds, seconds > 0
}

// The filter of a purge is whatever an operator wrote: what it names is what the server makes of it.
func FuzzMatches(f *testing.F) {
	for _, filter := range []string{
		">", "*", "notify.>", "notify.user.*", "notify.*.a", "*.user.>", "notify.user.a", "notify.user.a.>", "notify.user", "", ".", "..",
		"notify..a", "notify.user.a*", "notify.user.>a", "notify.>.a", "notify.user.", ">.>", "*.*.*", "*.*.*.*",
	} {
		f.Add("notify.user.a", filter)
		f.Add("notify.topic.all", filter)
	}
	f.Fuzz(func(t *testing.T, subject, filter string) {
		if !server.IsValidLiteralSubject(subject) || !server.IsValidSubject(filter) {
			return
		}
		for token := range strings.SplitSeq(filter, ".") {
			if len(token) > 1 && token[0] == '*' {
				return // to a purge that is a name like any other, but not to this function of the server
			}
		}
		got := matches(strings.Split(subject, "."), strings.Split(filter, "."))
		if want := server.SubjectMatchesFilter(subject, filter); got != want {
			t.Errorf("%q is one of %q: %t, with the server %t", subject, filter, got, want)
		}
	})
}

// Of the audit, which everybody may read who may, and write too, nothing but what it says is believed.
func FuzzRemoval(f *testing.F) {
	const purge, remove = "$JS.API.STREAM.PURGE.NOTIFICATIONS", "$JS.API.STREAM.MSG.DELETE.NOTIFICATIONS"
	for _, event := range []string{
		`{"subject":"` + purge + `","request":""}`,
		`{"subject":"` + purge + `","request":"{\"filter\":\"notify.user.a\",\"keep\":2}"}`,
		`{"subject":"` + purge + `","request":"{\"seq\":-5}"}`,
		`{"subject":"` + purge + `","request":{"filter":"x"}}`,
		`{"subject":"` + purge + `X","request":""}`,
		`{"subject":"` + remove + `","request":"{\"seq\":18446744073709551615}"}`,
		`{"subject":"` + remove + `","request":"{\"seq\":0}"}`,
		`{"subject":"` + remove + `","request":"null"}`,
		`{"request":"` + purge + `"}`, `"` + purge + `"`, purge, ``,
	} {
		f.Add([]byte(event))
	}
	s := &Stream{name: "NOTIFICATIONS"}
	f.Fuzz(func(t *testing.T, event []byte) {
		what, ok := s.removal(event)
		switch {
		case !ok && what != (removal{}):
			t.Errorf("%q is no removal, and yet %+v", event, what)
		case !ok:
		case !strings.Contains(string(event), "NOTIFICATIONS"):
			t.Errorf("%q, which does not name the stream, is %+v", event, what)
		case what.seq > 0 && what.filter != "":
			t.Errorf("%q is both: %+v", event, what)
		}
	})
}
