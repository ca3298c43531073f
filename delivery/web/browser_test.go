package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

const within = 30 * time.Second // for all that follows the build

// view is what the page shows of alice, newest first.
type view struct {
	State  string
	Unread string
	Items  []item
}

type item struct {
	Replayed bool
	Kind     string
	Data     string
}

const look = `(() => {
	const alice = document.querySelector("[data-user=alice]");
	return alice && {
		State: alice.dataset.state,
		Unread: alice.querySelector(".bell b").textContent,
		Items: Array.from(alice.querySelectorAll("li"), li => ({
			Replayed: li.querySelector(".replayed") !== null,
			Kind: li.querySelector("strong")?.textContent ?? "",
			Data: li.querySelector("pre")?.textContent ?? li.textContent,
		})),
	};
})()`

// remember keeps all that alice's bell has shown: it may say 1 for a second only.
const remember = `
	window.bells = [];
	new MutationObserver(() => {
		const now = document.querySelector("[data-user=alice] .bell b")?.textContent;
		if (now && now !== bells.at(-1)) bells.push(now);
	}).observe(document, { subtree: true, childList: true, characterData: true });`

// TestDemoInBrowser is the page in Chromium, before the real command.
func TestDemoInBrowser(t *testing.T) {
	t.Parallel()
	chromium := findChromium(t)
	tidings := build(t)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)

	g := &gateway{tidings: tidings, dir: t.TempDir(), listen: "127.0.0.1:0", natsPort: "-1"}
	g.start(ctx, t)
	const markup = `<img src=x onerror="window.owned = true"><script>window.owned = true</script>`
	missed := item{Kind: "<b>bold</b>", Data: markup, Replayed: true}
	g.publish(ctx, t, "alice", markup, "--kind", missed.Kind)

	b := openBrowser(ctx, t, chromium)
	b.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": remember})
	b.call("Page.navigate", map[string]any{"url": "http://" + g.listen + "/"})
	b.shows(view{State: "live", Unread: "0", Items: []item{missed}})
	if got, want := eval[[]string](b, "bells"), []string{"–", "1", "0"}; !slices.Equal(got, want) {
		t.Errorf("the bell showed %q, want %q", got, want)
	}

	live := item{Data: "{\n  \"order\": 12345678901234567890\n}"}
	g.publish(ctx, t, "alice", `{"order":12345678901234567890}`)
	b.shows(view{State: "live", Unread: "0", Items: []item{live, missed}})

	g.kill()
	b.until("waiting", func(v view) bool { return v.State == "waiting" })
	g.start(ctx, t)
	after := item{Kind: "after", Data: "the restart"}
	b.until("live", func(v view) bool { return v.State == "live" })
	g.publish(ctx, t, "alice", after.Data, "--kind", after.Kind)
	b.shows(view{State: "live", Unread: "0", Items: []item{after, live, missed}})

	// What the gateway does not do here: a repeat, a gap, and a goodbye that says when to come again.
	eval[any](b, `alice.receive('{"type":"msg","seq":1,"time":"2026-01-02T03:04:05Z","data":"a repeat"}')`)
	eval[any](b, `alice.receive('{"type":"gap","after":41,"next":97,"reason":"expired"}')`)
	gap := item{Data: "Notifications after #41 and before #97 may be gone: they were stored too long ago."}
	b.shows(view{State: "live", Unread: "0", Items: []item{gap, after, live, missed}})
	eval[any](b, `alice.receive('{"type":"goaway","code":4512,"reason":"draining","retry_after":60000}'), alice.ended(4512, "draining")`)
	const goodbye = "Waiting: draining (4512). Next try in 60.0 s."
	if got := eval[string](b, `document.querySelector("[data-user=alice] .state").textContent`); got != goodbye {
		t.Errorf("after a goaway the page says %q, want %q", got, goodbye)
	}

	if eval[bool](b, "window.owned === true || document.images.length > 0") {
		t.Error("a notification became markup")
	}
	codes := fmt.Sprintf("Array.from({ length: %d }, (_, i) => stops(i))", 5000)
	for code, stops := range eval[[]bool](b, codes) {
		if c := wire.CloseCode(code); code >= 1000 && stops == c.Again() {
			t.Errorf("close code %s: the page stops: %t", c, stops)
		}
	}

	// What was acknowledged does not come again: the new page knows nothing, the gateway does.
	b.call("Page.reload", nil)
	b.shows(view{State: "live", Unread: "0", Items: []item{}})
	for _, problem := range b.problems {
		t.Errorf("the browser complains: %s", problem)
	}
}

// shows waits until the page shows exactly that.
func (b *browser) shows(want view) {
	b.t.Helper()
	b.until(fmt.Sprintf("%+v", want), func(got view) bool { return reflect.DeepEqual(got, want) })
}

func (b *browser) until(what string, is func(view) bool) {
	b.t.Helper()
	for {
		got, err := tryEval[view](b, look) // fails while the page is being replaced
		if err == nil && is(got) {
			return
		}
		pause(b.ctx, b.t, fmt.Sprintf("the page shows %+v (%v)\nwant %s", got, err, what))
	}
}

func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tidings")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/tidings").CombinedOutput(); err != nil {
		t.Fatalf("build tidings: %v\n%s", err, out)
	}
	return path
}

// environment is that of this process without flags of ours, and with nothing to be left in its home.
func environment(home string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TIDINGS_") || strings.HasPrefix(v, "XDG_")
	})
	return append(env, "HOME="+home, "TMPDIR="+home)
}

// start starts a command that logs to a file, and ends it with the test.
func start(t *testing.T, cmd *exec.Cmd, log string) {
	t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	cmd.Stderr = file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("log of %s:\n%s", filepath.Base(cmd.Path), text)
		}
	})
}

// gateway is a `tidings gateway --dev`. Once started it has addresses, which it keeps.
type gateway struct {
	tidings, dir, listen, natsPort string
	flags                          []string // more of them

	cmd *exec.Cmd
}

func (g *gateway) start(ctx context.Context, t *testing.T) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	args := []string{"gateway", "--dev", "--listen", g.listen, "--nats-port", g.natsPort,
		"--data", filepath.Join(g.dir, "data"), "--log-format", "json"}
	g.cmd = exec.CommandContext(ctx, g.tidings, append(args, g.flags...)...)
	g.cmd.Env = environment(g.dir)
	start(t, g.cmd, log)
	for {
		text, _ := os.ReadFile(log)
		for line := range bytes.Lines(text) {
			var entry struct{ Message, Listen, NATS string }
			if json.Unmarshal(line, &entry) != nil || entry.Message != "serving" {
				continue
			}
			nats, err := url.Parse(entry.NATS)
			if err != nil {
				t.Fatal(err)
			}
			g.listen, g.natsPort = entry.Listen, nats.Port()
			return
		}
		pause(ctx, t, "the gateway does not serve")
	}
}

func (g *gateway) kill() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

func (g *gateway) publish(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"publish", "--nats", "nats://127.0.0.1:" + g.natsPort}, args...)
	cmd := exec.CommandContext(ctx, g.tidings, args...)
	cmd.Env = environment(g.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tidings %q: %v\n%s", args, err, out)
	}
}

// pause is between two looks at a condition. It leaves a few seconds of ctx to end in order.
func pause(ctx context.Context, t *testing.T, otherwise string) {
	t.Helper()
	if deadline, _ := ctx.Deadline(); time.Until(deadline) < 3*time.Second {
		t.Fatal(otherwise)
	}
	time.Sleep(20 * time.Millisecond)
}
