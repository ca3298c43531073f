package streams_test

import (
	"strings"
	"testing"

	"github.com/tidings-io/tidings/streams"
)

func TestTraceparentIsStrict(t *testing.T) {
	t.Parallel()
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for s, want := range map[string]bool{
		good:                                     true,
		strings.TrimSuffix(good, "1") + "0":      true,
		strings.TrimSuffix(good, "01") + "ff":    true,
		"":                                       false,
		good + "-":                               false,
		good + "\x00":                            false,
		" " + good[:54]:                          false,
		strings.ToUpper(good):                    false,
		"01" + good[2:]:                          false, // of which not everything is understood
		"ff" + good[2:]:                          false,
		strings.Replace(good, "4bf9", "4bg9", 1): false,
		strings.Replace(good, "4bf9", "4b\x009", 1): false,
		strings.Replace(good, "-00f0", "_00f0", 1):  false,
		good[:53] + "é": false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": false,
	} {
		if got := streams.ValidTraceparent(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
}
