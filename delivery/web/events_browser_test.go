package web_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// eventsPage is a page that receives events without a client library. The token is in a cookie that
// scripts cannot read.
const eventsPage = `<!doctype html><title>events</title><link rel="icon" href="data:,"><script>
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

// An EventSource in Chromium, with a token in a cookie and on a page of another origin, reconnects
// by itself after its connection was cut, and gets what it missed, once. A WebSocket works with the
// same cookie.
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

// eventsSample returns the EventSource sample of HTTP.md, with shorter waits.
func eventsSample(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile("../HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(readme), "```js\nconst gateway = \"https://push.example.com\";\n")
	code, _, _ = strings.Cut(code, "```\n")
	if !found || !strings.Contains(code, "5_000") {
		t.Fatal("HTTP.md has no sample for EventSource")
	}
	return `<!doctype html><title>events</title><link rel="icon" href="data:,"><script>
const gateway = new URLSearchParams(location.search).get("gateway");
window.got = [];
window.said = [];
console.log = frame => got.push(frame.data);
console.error = (...words) => said.push(words.join(" "));
` + strings.ReplaceAll(code, "5_000", "50") + `</script>`
}

// front is a reverse proxy for a gateway. It answers 502 while the gateway is down, and counts
// responses.
type front struct {
	*httptest.Server
	answers [3]atomic.Int64 // successful acknowledgements, acknowledgements with 502, all responses
}

func runFront(t *testing.T, gateway string) *front {
	f := &front{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: gateway})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, _ error) {
		f.answers[2].Add(1)
		if r.URL.Path == "/v1/ack" {
			f.answers[1].Add(1)
		}
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.WriteHeader(http.StatusBadGateway)
	}
	proxy.ModifyResponse = func(r *http.Response) error {
		f.answers[2].Add(1)
		if r.Request.URL.Path == "/v1/ack" && r.StatusCode == http.StatusNoContent && r.Request.Method == http.MethodPost {
			f.answers[0].Add(1)
		}
		if r.Header.Get("Content-Type") == "text/event-stream" { // by default Chromium waits three seconds
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(strings.NewReader("retry: 50\n\n"), r.Body), r.Body}
		}
		return nil
	}
	f.Server = httptest.NewServer(proxy)
	t.Cleanup(f.Close)
	return f
}

// The sample of HTTP.md runs behind a proxy that answers 502 while its gateway restarts. Every
// message arrives once, because the sample acknowledges, and it stops when its token is refused.
func TestEventSourceSampleInBrowser(t *testing.T) {
	t.Parallel()
	chromium := findChromium(t)
	tidings := build(t)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	page := eventsSample(t)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := &http.Cookie{Name: "session", Value: "alice", Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
		if r.URL.Path == "/logout" {
			session.MaxAge = -1
		}
		http.SetCookie(w, session)
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(site.Close)
	g := &gateway{tidings: tidings, dir: t.TempDir(), listen: "127.0.0.1:0", natsPort: "-1",
		flags: []string{"--origin", site.URL, "--token-cookie", "session"}}
	g.start(ctx, t)
	f := runFront(t, g.listen)
	b := openBrowser(ctx, t, chromium)
	await := func(what string, holds func() bool) {
		t.Helper()
		for !holds() {
			pause(ctx, t, what)
		}
	}
	var want []string
	publish := func(text string) {
		t.Helper()
		g.publish(ctx, t, "alice", text)
		want = append(want, text)
	}
	shows := func() bool {
		got, err := tryEval[[]string](b, "got")
		return err == nil && slices.Equal(got, want)
	}
	for i := range 3 {
		publish(fmt.Sprint("missed ", i))
	}
	b.call("Page.navigate", map[string]any{"url": site.URL + "/?gateway=" + f.URL})
	await("the page does not show the missed messages", shows)
	await("nothing is acknowledged", func() bool { return f.answers[0].Load() > 0 })
	for range 2 {
		g.kill()
		before := f.answers[1].Load()
		await("it does not retry while the gateway is down", func() bool { return f.answers[1].Load() > before+1 })
		g.start(ctx, t)
		publish("after a restart")
		await(fmt.Sprintf("want %q", want), shows)
	}

	eval[any](b, `fetch("/logout").then(() => { window.out = true; }) && null`)
	await("the page is not logged out", func() bool { return eval[bool](b, "window.out === true") })
	g.kill()
	g.start(ctx, t)
	await("the refusal is not logged", func() bool { return len(eval[[]string](b, "said")) > 0 })
	if said := eval[[]string](b, "said"); !slices.Equal(said, []string{"refused: 401"}) {
		t.Errorf("the page logs %q", said)
	}
	answers := f.answers[2].Load()
	time.Sleep(500 * time.Millisecond) // five times its wait
	if more := f.answers[2].Load() - answers; more > 0 || !shows() {
		t.Errorf("%d more requests, and it shows %q", more, eval[[]string](b, "got"))
	}
}
