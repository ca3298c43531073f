package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// eventsPage is somebody's page that needs no client of ours. Its user is in a cookie, which scripts cannot read.
const eventsPage = `<!doctype html><title>theirs</title><link rel="icon" href="data:,"><script>
const gateway = new URLSearchParams(location.search).get("gateway");
window.got = [];
const events = new EventSource(gateway + "/v1/sse", { withCredentials: true });
events.addEventListener("msg", ({ data }) => got.push(JSON.parse(data).data));
const ws = new WebSocket(gateway.replace("http", "ws") + "/v1/ws");
ws.onmessage = ({ data }) => {
	const frame = JSON.parse(data);
	if (frame.type === "hello") ws.send('{"type":"auth"}');
	if (frame.type === "ready") window.user = frame.user;
};
</script>`

// TestEventSourceInBrowser is Chromium's EventSource with a token in a cookie, on a page of another origin: it comes again by itself
// after its connection was cut, and gets what it missed, once. WebSocket has the same cookie.
func TestEventSourceInBrowser(t *testing.T) {
	t.Parallel()
	chromium := findChromium(t)
	tidings := build(t)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "alice", Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(eventsPage))
	}))
	t.Cleanup(site.Close)
	g := &gateway{tidings: tidings, dir: t.TempDir(), listen: "127.0.0.1:0", natsPort: "-1",
		flags: []string{"--origin", site.URL, "--token-cookie", "session", "--ping", "300ms"}}
	g.start(ctx, t)
	proxy := streamstest.RunProxy(t, g.listen)
	b := openBrowser(ctx, t, chromium)
	shows := func(want ...string) {
		t.Helper()
		for {
			got, err := tryEval[[]string](b, "got")
			if err == nil && slices.Equal(got, want) {
				return
			}
			pause(ctx, t, fmt.Sprintf("the page has %q (%v), want %q", got, err, want))
		}
	}
	g.publish(ctx, t, "alice", "missed")
	b.call("Page.navigate", map[string]any{"url": site.URL + "/?gateway=http://" + proxy.Addr()})
	shows("missed")
	g.publish(ctx, t, "alice", "live")
	shows("missed", "live")
	for {
		if user, err := tryEval[string](b, "user"); err == nil && user == "alice" {
			break
		}
		pause(ctx, t, "the WebSocket is not admitted")
	}
	proxy.Cut()
	g.publish(ctx, t, "alice", "while it was away")
	proxy.Restore()
	shows("missed", "live", "while it was away")
}
