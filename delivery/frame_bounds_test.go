package delivery_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// A client with the documented limits reads whatever was published, and what comes behind it.
func TestFramesAreBounded(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	p, _ := n.live(t, "alice")
	const most = streams.DefaultMaxNotification
	p.ws.SetReadLimit(int64(wire.MaxMsg(most)))
	levels := strings.Repeat("[", 9_998) + strings.Repeat("]", 9_998)
	for _, c := range []struct {
		data   string
		base64 bool
	}{
		{strings.Repeat("\x01", most), true},
		{levels, true},
		{strings.Repeat("\n", most), false},
		{strings.Repeat("<", most), false},
		{strings.Repeat("\u2028", most/3), false},
	} {
		n.to(t, "alice", c.data)
		m := expect[wire.Msg](p)
		if got := string(m.DataB64); c.base64 && got != c.data || !c.base64 && (got != "" || m.Data == nil) {
			t.Errorf("%.10q…: %d bytes in data, %d in data_b64", c.data, len(m.Data), len(got))
		}
	}
	a := n.call(t, http.MethodGet, "/v1/users/alice/notifications?limit=2&before=5", "").is(200)
	if limit := 2*wire.MaxMsg(most) + 100; len(a.body) > limit || !strings.Contains(a.body, fmt.Sprintf(`"data":%q`, strings.Repeat("<", most))) {
		t.Errorf("a page of two has %d bytes, the limit is %d", len(a.body), limit)
	}
}
