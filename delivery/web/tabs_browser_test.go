package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// tabsPage is a page that is open in several tabs.
const tabsPage = `<!doctype html><title>tabs</title><link rel="icon" href="data:,"><script type="module">
window.sockets = [];
const Real = WebSocket;
window.WebSocket = class extends Real {
	constructor(...how) {
		super(...how);
		sockets.push(this);
	}
};
const gateway = new URLSearchParams(location.search).get("gateway");
const { Tidings } = await import(gateway + "/tidings-tabs.js");
window.got = [];
window.states = [];
window.client = new Tidings({
	user: "alice",
	token: () => "alice",
	onMessage: async m => { got.push(m.data); },
	grace: Number(new URLSearchParams(location.search).get("grace")),
});
client.on("state", e => states.push(e.state));
client.start();
</script>`

// tab is a tab with that page.
type tab struct{ *browser }

// is waits until the client is live and has handled exactly these messages since the page was opened.
func (v tab) is(want ...string) {
	v.t.Helper()
	for {
		state, err := tryEval[string](v.browser, "client.state") // fails until the page is loaded
		got, err2 := tryEval[[]string](v.browser, "got")
		if err == nil && err2 == nil && state == "live" && slices.Equal(got, want) {
			return
		}
		pause(v.ctx, v.t, fmt.Sprintf("the tab is %s (%v) and got %q (%v), want live and %q", state, err, got, err2, want))
	}
}

// open returns the number of the tab's WebSockets that are open or connecting.
func (v tab) open() int { return eval[int](v.browser, "sockets.filter(s => s.readyState < 2).length") }

// leader waits until exactly one of the tabs has a WebSocket, and returns that tab and the other.
func leader(a, b tab) (tab, tab) {
	a.t.Helper()
	for {
		switch [2]int{a.open(), b.open()} {
		case [2]int{1, 0}:
			return a, b
		case [2]int{0, 1}:
			return b, a
		}
		pause(a.ctx, a.t, "two tabs do not share one WebSocket")
	}
}

// The JavaScript client runs in several tabs of one Chromium against the real command.
func TestTabsInBrowser(t *testing.T) {
	t.Parallel()
	chromium := findChromium(t)
	tidings := build(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*within)
	t.Cleanup(cancel)

	held, release := make(chan struct{}), make(chan struct{})
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			close(held)
			<-release
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(tabsPage))
	}))
	t.Cleanup(site.Close)
	unhang := func() { close(release) }
	t.Cleanup(func() { unhang() })
	g := &gateway{tidings: tidings, dir: t.TempDir(), listen: "127.0.0.1:0", natsPort: "-1",
		flags: []string{"--origin", site.URL, "--ping", "300ms"}}
	g.start(ctx, t)
	proxy := streamstest.RunProxy(t, g.listen)
	publish := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			g.publish(ctx, t, "alice", text)
		}
	}
	b := openBrowser(ctx, t, chromium)
	open := func(v *browser, grace time.Duration) tab {
		t.Helper()
		v.call("Page.navigate", map[string]any{
			"url": fmt.Sprintf("%s/?grace=%d&gateway=%s", site.URL, grace.Milliseconds(), url.QueryEscape("http://"+proxy.Addr())),
		})
		return tab{v}
	}

	publish("missed")
	first := open(b, within) // so long that no tab takes the connection from a slow one
	first.is("missed")
	second := open(b.tab(), within)
	second.is() // the first tab has handled the missed message
	publish("one", "two")
	first.is("missed", "one", "two")
	second.is("one", "two")
	if leads, _ := leader(first, second); leads != first || len(eval[[]string](second.browser, "states")) != 3 {
		t.Error("the second tab did not join the first")
	}

	// From here on a silent tab or gateway is given up soon.
	const grace = 600 * time.Millisecond
	first, second = open(first.browser, grace), open(second.browser, grace)
	first.is()
	second.is()

	// A network stalls and recovers.
	proxy.Stall()
	publish("three", "four")
	for _, v := range []tab{first, second} {
		for eval[int](v.browser, `states.filter(s => s === "waiting").length`) < 2 { // one reconnect failed too
			pause(ctx, t, "a tab does not notice that its network is dead")
		}
	}
	proxy.Restore()
	first.is("three", "four")
	second.is("three", "four")

	// The tab with the connection is closed.
	closed, stays := leader(first, second)
	closed.call("Target.closeTarget", map[string]any{"targetId": closed.target})
	had := eval[[]string](stays.browser, "got")
	publish("five")
	had = append(had, "five")
	stays.is(had...)
	third := open(b.tab(), grace)
	third.is()
	publish("six")
	had = append(had, "six")
	stays.is(had...)
	third.is("six")

	// The leader is frozen, and its page gets the freeze event.
	frozen, awake := leader(stays, third)
	frozen.call("Page.setWebLifecycleState", map[string]any{"state": "frozen"})
	for awake.open() == 0 {
		pause(ctx, t, "no tab takes over from a frozen tab")
	}
	publish("seven")
	had = append(had, "seven")
	if awake == third {
		third.is("six", "seven")
	} else {
		stays.is(had...)
	}
	frozen.call("Page.setWebLifecycleState", map[string]any{"state": "active"})
	stays.is(had...)
	third.is("six", "seven")

	// The leader hangs, without an event.
	hangs, awake := leader(stays, third)
	before := eval[int](hangs.browser, "states.length")
	hangs.send("Runtime.evaluate", map[string]any{"expression": `const x = new XMLHttpRequest(); x.open("GET", "/hold", false); x.send()`})
	select {
	case <-held:
	case <-ctx.Done():
		t.Fatal("the tab does not hang")
	}
	for awake.open() == 0 {
		pause(ctx, t, "no tab takes over from a tab that hangs")
	}
	publish("eight")
	had = append(had, "eight")
	if awake == third {
		third.is("six", "seven", "eight")
	} else {
		stays.is(had...)
	}
	unhang()
	unhang = func() {}
	for eval[int](hangs.browser, "states.length") == before {
		pause(ctx, t, "the tab does not notice that its connection was taken")
	}
	stays.is(had...)
	third.is("six", "seven", "eight")
	leader(stays, third)

	// The gateway sees one connection.
	cmd := exec.CommandContext(ctx, tidings, "disconnect", "--nats", "nats://127.0.0.1:"+g.natsPort, "alice")
	cmd.Env = environment(g.dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "closed 1 ") {
		t.Errorf("tidings disconnect: %v\n%s", err, out)
	}
	for _, v := range []tab{stays, third} {
		for eval[string](v.browser, "client.state") != "closed" {
			pause(ctx, t, "a disconnect does not reach every tab")
		}
	}
	for _, problem := range b.problems {
		t.Errorf("the browser reports: %s", problem)
	}
}
