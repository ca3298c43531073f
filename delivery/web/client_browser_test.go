package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// clientPage is a page of another origin that uses the client.
const clientPage = `<!doctype html><title>client</title><link rel="icon" href="data:,"><script type="module">
const ask = new URLSearchParams(location.search);
const { Tidings } = await import(ask.get("gateway") + "/tidings.js");
window.got = [];
window.states = [];
window.said = [];
console.error = text => said.push(text);
window.client = new Tidings({
	token: async () => ask.get("user"),
	onMessage: async m => { got.push((m.replayed ? "replayed " : "") + m.data); },
	ackEvery: Number(ask.get("ackEvery")),
	grace: 600,
});
client.on("state", e => states.push(e.state));
client.start();
addEventListener("pagehide", () => navigator.sendBeacon("/left")); // after the client has handled it
</script>`

// readmePage returns the page in README.md.
func readmePage(t *testing.T) string {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Error(err)
	}
	_, page, _ := strings.Cut(string(readme), "```html\n")
	page, _, _ = strings.Cut(page, "```\n")
	return page
}

// visit is a browser that opens the page, and reaches the gateway through a proxy.
type visit struct {
	*browser
	site, gateway string
	left          chan struct{}
}

func (v visit) open(user string, ackEvery time.Duration) {
	v.t.Helper()
	ask := url.Values{"user": {user}, "gateway": {v.gateway}, "ackEvery": {fmt.Sprint(ackEvery.Milliseconds())}}
	v.call("Page.navigate", map[string]any{"url": v.site + "/?" + ask.Encode()})
}

func (v visit) leave() {
	v.t.Helper()
	v.call("Page.navigate", map[string]any{"url": "about:blank"})
	select { // Chromium reports the navigation before the page gets the event
	case <-v.left:
	case <-v.ctx.Done():
		v.t.Fatal("the page does not leave")
	}
}

// is waits until the client is live and has handled exactly these messages since the page was
// opened.
func (v visit) is(want ...string) {
	v.t.Helper()
	for {
		state, err := tryEval[string](v.browser, "client.state") // fails while the page loads
		got, err2 := tryEval[[]string](v.browser, "got")
		if err == nil && err2 == nil && state == "live" && slices.Equal(got, want) {
			return
		}
		pause(v.ctx, v.t, fmt.Sprintf("the page is %s (%v) and got %q (%v), want live and %q", state, err, got, err2, want))
	}
}

func (v visit) position() uint64 {
	v.t.Helper()
	return eval[uint64](v.browser, "client.position.seq")
}

// The JavaScript client runs in Chromium, on a page of another origin, against the real command.
func TestClientInBrowser(t *testing.T) {
	t.Parallel()
	chromium := findChromium(t)
	tidings := build(t)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)

	left := make(chan struct{}, 10)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/left" {
			left <- struct{}{}
			return
		}
		w.Header().Set("Content-Type", "text/html")
		page := clientPage
		if r.URL.Path == "/readme" {
			page = strings.ReplaceAll(readmePage(t), "http://127.0.0.1:8080", r.URL.Query().Get("gateway"))
		}
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(site.Close)
	g := &gateway{tidings: tidings, dir: t.TempDir(), listen: "127.0.0.1:0", natsPort: "-1",
		flags: []string{"--origin", site.URL, "--ping", "300ms", "--commit-interval", "100ms"}}
	g.start(ctx, t)
	proxy := streamstest.RunProxy(t, g.listen)
	js, err := jetstream.New(streamstest.Connect(t, "nats://127.0.0.1:"+g.natsPort))
	if err != nil {
		t.Fatal(err)
	}
	committed := func(user string, want uint64) {
		t.Helper()
		for {
			consumer, err := js.Consumer(ctx, "NOTIFICATIONS", "user-"+user)
			var at uint64
			if err == nil {
				at = consumer.CachedInfo().AckFloor.Stream
			}
			if at == want {
				return
			}
			pause(ctx, t, fmt.Sprintf("the stored position of %s is %d (%v), want %d", user, at, err, want))
		}
	}
	publish := func(user string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			g.publish(ctx, t, user, text)
		}
	}
	v := visit{openBrowser(ctx, t, chromium), site.URL, "http://" + proxy.Addr(), left}

	publish("bob", "for bob") // before alice's messages, so that a client that starts at her position misses it
	publish("alice", "one")
	v.open("alice", 50*time.Millisecond)
	v.is("replayed one")
	publish("alice", "two")
	v.is("replayed one", "two")
	committed("alice", v.position())

	// After a reload the page gets what it missed, once and in order.
	v.leave()
	publish("alice", "three", "four")
	v.open("alice", 50*time.Millisecond)
	v.is("replayed three", "replayed four")

	// A network stalls and recovers.
	proxy.Stall()
	publish("alice", "five", "six")
	for eval[int](v.browser, `states.filter(s => s === "waiting").length`) < 2 { // one reconnect failed too
		pause(ctx, t, "the page does not notice that its network is dead")
	}
	proxy.Restore()
	v.is("replayed three", "replayed four", "replayed five", "replayed six")
	publish("alice", "seven")
	v.is("replayed three", "replayed four", "replayed five", "replayed six", "seven")
	committed("alice", v.position())

	// Another user of the same browser leaves before an acknowledgement is due.
	v.leave()
	v.open("bob", time.Hour)
	v.is("replayed for bob")
	at := v.position()
	v.leave()
	committed("bob", at)
	v.open("alice", 50*time.Millisecond)
	v.is()

	// The page in the README works.
	v.leave()
	publish("alice", `{"order":991}`)
	v.call("Page.navigate", map[string]any{"url": site.URL + "/readme?gateway=" + url.QueryEscape(v.gateway)})
	for {
		text, err := tryEval[string](v.browser, `document.title + ": " + document.body.textContent.trim()`)
		if strings.HasSuffix(text, `live: {"order":991}`) {
			break
		}
		pause(ctx, t, fmt.Sprintf("the page of the README shows %q (%v)", text, err))
	}
	for _, problem := range v.problems {
		t.Errorf("the browser reports: %s", problem)
	}

	// The browser does not tell a page that its origin is not allowed, so the client logs possible causes.
	foreign := httptest.NewServer(site.Config.Handler)
	t.Cleanup(foreign.Close)
	v.call("Page.navigate", map[string]any{"url": foreign.URL + "/?user=alice&ackEvery=50&gateway=" + url.QueryEscape(v.gateway)})
	for {
		said, err := tryEval[[]string](v.browser, "said")
		if len(said) == 1 && strings.Contains(said[0], "--origin "+foreign.URL) {
			break
		}
		pause(ctx, t, fmt.Sprintf("the page logs %q (%v)", said, err))
	}
}
