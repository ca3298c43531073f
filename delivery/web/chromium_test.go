package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

func findChromium(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the test speaks to Chromium over inherited pipes, which Go cannot pass on Windows")
	}
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	const missing = "no Chromium: install chromium or google-chrome, or name one in CHROMIUM"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// browser is one tab of a Chromium.
type browser struct {
	ctx context.Context
	t   *testing.T
	*pipes
	target, session string // IDs of the tab
}

// pipes connect to a Chromium. It reads and writes JSON messages that end in NUL, and exits when
// the pipes are closed, also if this process dies.
type pipes struct {
	to       *os.File
	from     *bufio.Reader
	calls    int
	problems []string // errors of the pages, and violations of their policy
}

func openBrowser(ctx context.Context, t *testing.T, path string) *browser {
	t.Helper()
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, theirs2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+filepath.Join(home, "profile"), "--remote-debugging-pipe", "about:blank")
	cmd.Env = environment(home)
	cmd.ExtraFiles = []*os.File{theirs, theirs2} // file descriptors 3 and 4
	start(t, cmd, filepath.Join(t.TempDir(), "log"))
	_, _ = theirs.Close(), theirs2.Close()

	b := &browser{ctx: ctx, t: t, pipes: &pipes{to: to, from: bufio.NewReader(from)}}
	t.Cleanup(func() { // runs before the cleanup of start
		b.send("Browser.close", nil)
		_ = cmd.Wait() // ctx ends it at the latest
		_, _ = to.Close(), from.Close()
	})
	deadline, _ := ctx.Deadline()
	_, _ = to.SetWriteDeadline(deadline), from.SetReadDeadline(deadline)
	return b.tab()
}

// tab opens another tab in the same browser.
func (b *browser) tab() *browser {
	b.t.Helper()
	all := &browser{ctx: b.ctx, t: b.t, pipes: b.pipes}
	var target struct{ TargetID, SessionID string }
	all.into(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	all.into(&target, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	tab := &browser{ctx: b.ctx, t: b.t, pipes: b.pipes, target: target.TargetID, session: target.SessionID}
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		tab.call(domain+".enable", nil)
	}
	return tab
}

// message is a message of the Chrome DevTools Protocol.
type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

func (b *browser) send(method string, params any) {
	b.calls++
	text, err := json.Marshal(message{ID: b.calls, Method: method, Params: params, SessionID: b.session})
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	if err != nil {
		b.t.Errorf("%s: %v", method, err)
	}
}

// call is try, and fails the test on an error.
func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	result, err := b.try(method, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// try sends a command and waits for its result. It records problems that the browser reports
// meanwhile.
func (b *browser) try(method string, params any) (json.RawMessage, error) {
	b.t.Helper()
	b.send(method, params)
	for {
		text, err := b.from.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: Chromium does not answer: %v", method, err)
		}
		var m message
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.ID == b.calls && m.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, m.Error)
		case m.ID == b.calls:
			return m.Result, nil
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded" && bytes.Contains(text, []byte(`"source":"security"`)):
			b.problems = append(b.problems, string(text))
		}
	}
}

func (b *browser) into(result any, method string, params any) {
	b.t.Helper()
	if err := json.Unmarshal(b.call(method, params), result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// eval returns the value of an expression in the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	value, err := tryEval[T](b, expression)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

func tryEval[T any](b *browser, expression string) (value T, err error) {
	b.t.Helper()
	var got struct {
		Result           struct{ Value T }
		ExceptionDetails json.RawMessage
	}
	result, err := b.try("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true})
	if err != nil {
		return value, err
	}
	if err := json.Unmarshal(result, &got); err != nil {
		return value, fmt.Errorf("%s: %w", expression, err)
	}
	if got.ExceptionDetails != nil {
		return value, fmt.Errorf("%s: %s", expression, got.ExceptionDetails)
	}
	return got.Result.Value, nil
}
