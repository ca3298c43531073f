package streams_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30d": 30 * day, "2w": 14 * day, "1.5d": 36 * time.Hour, ".5d": 12 * time.Hour, "1w1d1h1m1s": 8*day + time.Hour + time.Minute + time.Second,
		"12h1d": 36 * time.Hour, "-1d": -day, "+1d": day, "0d": 0, "106751d": 106751 * day, "90m": 90 * time.Minute, "0": 0, "-1s": -time.Second,
		"1.5h": 90 * time.Minute,
	} {
		if got, err := streams.ParseDuration(text); got != want || err != nil {
			t.Errorf("%s is %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "30", "d", "30 d", "30days", "1M", "tomorrow", "1-d", "--1d", "1d-1h", "1.2.5d", "1..d", "1d106751d", ".d", "99999999999999999999d", "1,5d", "P30D"} {
		if got, err := streams.ParseDuration(text); err == nil || !strings.HasSuffix(err.Error(), "use a number with a unit, such as 30s, 15m, 24h or 30d") {
			t.Errorf("%q is %s (%v)", text, got, err)
		}
	}
	for _, text := range []string{"106752d", "15251w"} {
		if got, err := streams.ParseDuration(text); err == nil || !strings.Contains(err.Error(), "at most 106751d") {
			t.Errorf("%q is %s (%v)", text, got, err)
		}
	}
}
