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

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams/streamstest"
)

const within = 30 * time.Second // timeout of a test, after the build

// view is what the page shows of a user, newest first.
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
	const user = document.querySelector("[data-user=%s]");
	return user && {
		State: user.dataset.state,
		Unread: user.querySelector(".bell b").textContent,
		Items: Array.from(user.querySelectorAll("li"), li => ({
			Replayed: li.querySelector(".replayed") !== null,
			Kind: li.querySelector("strong")?.textContent ?? "",
			Data: li.querySelector("pre")?.textContent ?? li.textContent,
		})),
	};
})()`

// The demo page runs in Chromium against the real command.
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
	b.call("Page.navigate", map[string]any{"url": "http://" + g.listen + "/"})
	b.shows("alice", view{State: "live", Unread: "1", Items: []item{missed}})
	b.click("alice", ".bell")
	b.shows("alice", view{State: "live", Unread: "0", Items: []item{missed}})

	live := item{Data: "{\n  \"order\": 991,\n  \"to\": \"1 Long Street, London, United Kingdom\"\n}"}
	g.publish(ctx, t, "alice", `{"order":991,"to":"1 Long Street, London, United Kingdom"}`)
	b.shows("alice", view{State: "live", Unread: "1", Items: []item{live, missed}})
	b.click("alice", ".bell")

	// One user goes offline; the other stays online.
	b.shows("bob", view{State: "live", Unread: "0", Items: []item{}})
	b.click("bob", ".offline")
	b.until("bob", "offline", func(v view) bool {
		return v.State == "waiting" && strings.HasPrefix(b.stateText("bob"), "Offline. Notifications published meanwhile are kept. Next attempt in ")
	})
	g.publish(ctx, t, "bob", "one")
	g.publish(ctx, t, "bob", "two")
	b.until("bob", "an unplugged network", func(v view) bool { return v.State != "live" && len(v.Items) == 0 })
	b.click("bob", ".offline")
	b.shows("bob", view{State: "live", Unread: "2", Items: []item{{Data: "two", Replayed: true}, {Data: "one", Replayed: true}}})
	if got, want := b.stateText("bob"), "Live. 2 missed notifications were replayed."; got != want {
		t.Errorf("the page shows %q, want %q", got, want)
	}
	b.click("alice", ".toggle")
	b.shows("alice", view{State: "closed", Unread: "0", Items: []item{live, missed}})
	g.publish(ctx, t, "alice", "three")
	b.click("alice", ".toggle")
	three := item{Data: "three", Replayed: true}
	b.shows("alice", view{State: "live", Unread: "1", Items: []item{three, live, missed}})
	b.click("alice", ".bell")

	g.kill()
	const gone = "The gateway does not answer. Stored notifications are kept, and are delivered when it is back."
	b.until("alice", "the waiting state", func(v view) bool { return v.State == "waiting" && v.Items[0].Data == gone })
	g.start(ctx, t)
	b.shows("alice", view{State: "live", Unread: "0", Items: []item{three, live, missed}})

	// The command that the page shows, as a user would paste it.
	after := item{Kind: "it's", Data: `-$HOME "it's" \n <b>`}
	fill := fmt.Sprintf(`document.querySelector("#data").value = %q; document.querySelector("#kind").value = %q;
		document.querySelector("form").dispatchEvent(new Event("input")); document.querySelector(".command:last-child code").textContent`,
		after.Data, after.Kind)
	command := eval[string](b, fill)
	const ours = "go run ./cmd/tidings publish "
	if !strings.HasPrefix(command, ours) {
		t.Fatalf("the page shows the command %q", command)
	}
	command = tidings + " publish --nats nats://127.0.0.1:" + g.natsPort + " " + strings.TrimPrefix(command, ours)
	if out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	b.shows("alice", view{State: "live", Unread: "1", Items: []item{after, three, live, missed}})

	if eval[bool](b, "window.owned === true || document.images.length > 0") {
		t.Error("a notification became markup")
	}

	// A new page does not get acknowledged messages again. It fetches the list, and counts them as read.
	b.call("Page.reload", nil)
	for _, i := range []*item{&three, &missed} {
		i.Replayed = false
	}
	b.shows("alice", view{State: "live", Unread: "0", Items: []item{after, three, live, missed}})
	hint := fmt.Sprintf(`document.querySelector("#data").value = %q; document.querySelector("form").dispatchEvent(new Event("input"));
		document.querySelector("#not-json").textContent`, `{"order": 991`)
	if got := eval[string](b, hint); !strings.HasPrefix(got, "This is not valid JSON, so it is published as text. ") {
		t.Errorf("the hint for invalid JSON is %q", got)
	}
	// The form publishes with the key in the page.
	boxed := item{Data: "<i>from the box</i>"}
	eval[any](b, fmt.Sprintf(`document.querySelector("#data").value = %q; document.querySelector("#kind").value = "";
		document.querySelector(".publish .primary").click()`, boxed.Data))
	b.shows("alice", view{State: "live", Unread: "1", Items: []item{boxed, after, three, live, missed}})
	b.until("alice", "an answer", func(view) bool {
		return strings.HasPrefix(eval[string](b, `document.querySelector("#result").textContent`), "Stored as #")
	})

	js, err := jetstream.New(streamstest.Connect(t, "nats://127.0.0.1:"+g.natsPort))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, "NOTIFICATIONS")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject("notify.user.alice")); err != nil {
		t.Fatal(err)
	}
	b.until("alice", "a gap", func(v view) bool {
		return len(v.Items) > 0 && strings.HasSuffix(v.Items[0].Data, "may be missing: they were purged.")
	})
	for _, problem := range b.problems {
		t.Errorf("the browser reports: %s", problem)
	}
}

func (b *browser) click(user, what string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`document.querySelector("[data-user=%s] %s").click()`, user, what))
}

// stateText returns the state of a user's connection as the page shows it.
func (b *browser) stateText(user string) string {
	return eval[string](b, fmt.Sprintf(`document.querySelector("[data-user=%s] .state").textContent`, user))
}

// shows waits until the page shows exactly want.
func (b *browser) shows(user string, want view) {
	b.t.Helper()
	b.until(user, fmt.Sprintf("%+v", want), func(got view) bool { return reflect.DeepEqual(got, want) })
}

func (b *browser) until(user, what string, is func(view) bool) {
	b.t.Helper()
	for {
		got, err := tryEval[view](b, fmt.Sprintf(look, user)) // fails while the page loads
		if err == nil && is(got) {
			return
		}
		pause(b.ctx, b.t, fmt.Sprintf("the page shows for %s %+v (%v)\nwant %s", user, got, err, what))
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

// environment returns the environment of this process without TIDINGS_ and XDG_ variables, and with
// another home.
func environment(home string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TIDINGS_") || strings.HasPrefix(v, "XDG_")
	})
	return append(env, "HOME="+home, "TMPDIR="+home)
}

// start starts a command that logs to a file, and kills it at the end of the test.
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

// gateway is a `tidings gateway --dev`. After the first start it keeps its addresses.
type gateway struct {
	tidings, dir, listen, natsPort string
	flags                          []string // additional flags

	cmd *exec.Cmd
}

func (g *gateway) start(ctx context.Context, t *testing.T) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	args := []string{"gateway", "--dev", "--listen", g.listen, "--admin-listen", "", "--nats-port", g.natsPort,
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
		pause(ctx, t, "the gateway does not start")
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

// pause waits between two checks of a condition. It fails the test a few seconds before ctx ends,
// so that the test can clean up.
func pause(ctx context.Context, t *testing.T, failure string) {
	t.Helper()
	if deadline, _ := ctx.Deadline(); time.Until(deadline) < 3*time.Second {
		t.Fatal(failure)
	}
	time.Sleep(20 * time.Millisecond)
}
