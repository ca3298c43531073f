//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// canary returns a token, key or password that must not appear in any output.
func canary(s string) string { return streamstest.Canary + s }

// toolSearched runs a command to its end, with a variable of the environment, and searches what it wrote.
func toolSearched(t *testing.T, environment string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longer)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tidings", args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10", "TIDINGS_LOG_LEVEL=trace", environment)
	out, _ := cmd.CombinedOutput() // most are to fail
	secrets.Search("tidings "+args[0], out)
	if ctx.Err() != nil {
		t.Errorf("tidings %q does not end", args)
	}
}

// TestNoSecretIsWritten puts secrets wherever a client, a backend or an operator can put one, and looks for them in the answers, in what
// all processes write at trace level, in metrics, traces and profiles, and in the stacks of their goroutines. TestMain says what was found.
func TestNoSecretIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, users := filepath.Join(dir, "keys"), filepath.Join(dir, "users")
	for file, text := range map[string]string{
		keys: canary("a-key-of-a-file") + "\n", users: fmt.Sprintf(`{%q:{"user":"alice","expires_in":3600}}`, canary("good")),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o644); err != nil { // which earns warnings
			t.Fatal(err)
		}
	}
	port := streamstest.FreePort(t)
	server := fmt.Sprint("nats://127.0.0.1:", port)
	g := runGateway(t, keyVariable+"="+canary("a-key-of-the-environment"), "OTEL_TRACES_EXPORTER=console", "OTEL_BSP_SCHEDULE_DELAY=100", "--data", filepath.Join(dir, "data"), "--nats-port", fmt.Sprint(port), "--log-level", "trace", "--sync", "1s",
		"--api-keys", keys, "--token-cookie", "session", "--origin", "https://app.example", "--auth-timeout", "1s")
	responder := exec.Command("tidings", "responder", "--users", users, "--nats", server, "--log-level", "trace")
	var said bytes.Buffer
	responder.Stdout, responder.Stderr = &said, &said
	if err := responder.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if responder.ProcessState == nil {
			_ = responder.Process.Signal(syscall.SIGQUIT)
			_ = responder.Wait()
			secrets.Search("responder", said.Bytes())
		}
	}
	t.Cleanup(stop)
	streamstest.Eventually(t, longer, func() error {
		if status, text := askSearched(t, g, http.MethodGet, "/v1/users/alice/notifications", "", "Authorization", "Bearer "+canary("good")); status != 200 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})

	secretsOfClients(t, g)
	secretsOfBackends(t, g, server, stop)
	if !g.logged("file with the API keys is accessible to all users") || !strings.Contains(said.String(), "file with the tokens is accessible to all users") {
		t.Error("no warning of files that others can read")
	}
	for _, path := range []string{"/metrics", "/readyz", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline"} {
		_, text, err := get(g.admin() + path)
		if err != nil || text == "" {
			t.Errorf("%s: %v", path, err)
		}
		secrets.Search(path, []byte(text))
	}
	if !g.logged("authenticate") { // by the exporter
		t.Error("there is no trace")
	}
	g.signal(syscall.SIGQUIT) // for its goroutines
	<-g.done
	secretsOfOperators(t, dir, users)
}

// secretsOfClients are sent in the right places and in wrong ones.
func secretsOfClients(t *testing.T, g *gateway) {
	t.Helper()
	for _, c := range []struct {
		method, path, body string
		headers            []string
	}{
		{"GET", delivery.EventsPath, "", []string{"Authorization", "Bearer " + canary("refused")}},
		{"GET", delivery.EventsPath, "", []string{"Authorization", "Basic " + canary("no-bearer")}},
		{"GET", delivery.EventsPath, "", []string{"Authorization", canary("no-scheme")}},
		{"GET", delivery.EventsPath, "", []string{"Cookie", "session=" + canary("cookie"), "Origin", "https://app.example"}},
		{"GET", delivery.EventsPath, "", []string{"Cookie", "session=" + canary("cookie"), "Origin", "https://evil.example"}},
		{"GET", delivery.EventsPath, "", []string{"Authorization", "Bearer " + canary("good"), "Last-Event-ID", "no id"}},
		{"GET", delivery.EventsPath + "?token=" + canary("query"), "", nil},
		{"GET", wire.Path + "?access_token=" + canary("query"), "", nil}, // without an upgrade
		{"GET", wire.Path + "?token=" + canary("query"), "", []string{"Origin", "https://evil.example", "Connection", "Upgrade", "Upgrade", "websocket"}},
		{"POST", "/v1/ack", `{"epoch":"x","seq":1}`, []string{"Authorization", "Bearer " + canary("good")}},
		{"POST", "/v1/ack", `{"epoch":`, []string{"Authorization", "Bearer " + canary("good")}},
		{"POST", "/v1/ack", `{"epoch":"x","seq":1}`, []string{"Authorization", "Bearer " + canary("refused")}},
		{"GET", "/v1/users/alice/notifications?token=" + canary("query"), "", nil},
		{"GET", "/v1/users/bob/notifications", "", []string{"Authorization", "Bearer " + canary("good")}},
		{"GET", "/v1/users/alice", "", []string{"Authorization", "Bearer " + canary("a-wrong-key")}},
		{"GET", "/v1/users/alice", "", []string{"Authorization", "Bearer " + canary("a-key-of-a-file")}},
		{"POST", "/v1/notifications", `{"to":"alice","data":1}`, []string{"Authorization", "Bearer " + canary("a-key-of-a-file")}},
		{"POST", "/v1/notifications", `{"to":`, []string{"Authorization", "Bearer " + canary("a-key-of-the-environment")}},
		{"DELETE", "/v1/users/alice/connections?key=" + canary("query"), "", []string{"Authorization", "Bearer " + canary("a-key-of-a-file")}},
		{"GET", "/metrics", "", []string{"Authorization", "Bearer " + canary("good")}},
		{"GET", "/nothing?token=" + canary("query"), "", nil},
	} {
		askSearched(t, g, c.method, c.path, c.body, c.headers...)
	}
	good := `{"type":"auth","token":"` + canary("good") + `"}`
	for _, frames := range [][]string{
		{good},
		{`{"type":"auth","token":"` + canary("refused") + `"}`},
		{`{"type":"auth","token":["` + canary("a list") + `"]}`},
		{`{"type":"auth","token":"` + canary("cut short")},
		{`{"type":"auth","token":"` + canary("\\q wrong escape") + `"}`},
		{`{"type":"auth","token":"` + canary("\xff not UTF-8") + `"}`},
		{`{"type":"auth","device":"` + strings.Repeat("x", 300) + `","token":"` + canary("good") + `"}`},
		{canary("nothing but a token")},
		{`{"type":"` + canary("a type") + `"}`},
		{`{"type":"auth","token":"` + canary(strings.Repeat("too large ", 2000)) + `"}`},
		{good, good},
		{good, `{"type":"renew","token":"` + canary("good") + `"}`, `{"type":"ack","seq":99}`},
		{good, `{"type":"renew","token":"` + canary("renewed in vain") + `"}`},
		{good, `{"type":"renew","token":17,"x":"` + canary("x") + `"}`},
	} {
		speakSearched(t, g, frames...)
	}
	for _, token := range []string{canary("good"), canary("refused")} {
		toolSearched(t, "TIDINGS_TOKEN="+token, "listen", "--url", g.url(), "--count", "1")
	}
	toolSearched(t, "", "listen", "--url", "ws://127.0.0.1:1/?token="+canary("query"), "--token", canary("x"), "--nothing")
	toolSearched(t, "", "listen", "--url", "ws://"+canary("user")+":x@%zz", "--token", canary("x"))
}

// secretsOfBackends are tokens that they quote in what they answer; at last none answers.
func secretsOfBackends(t *testing.T, g *gateway, server string, stop func()) {
	t.Helper()
	stop()
	nc := streamstest.Connect(t, server)
	quoted := canary("quoted")
	for _, reply := range []*nats.Msg{
		{Data: []byte(`{"success":false,"error":"no ` + quoted + `","message":"who is ` + quoted + `?"}`)},
		{Data: []byte(`{"success":false,"message":"` + strings.Repeat("x", 190) + quoted + `","retry_after":1}`)},
		{Data: []byte(`{"success":true,"user_id":["` + quoted + `"]}`)},
		{Data: []byte(`{"success":"` + quoted + `"}`)},
		{Data: []byte(quoted)},
		{Header: nats.Header{"Nats-Service-Error": {quoted}, "Nats-Service-Error-Code": {"500"}}},
		{Header: nats.Header{"Nats-Service-Error": {quoted}, "Nats-Service-Error-Code": {"400"}}},
	} {
		sub, err := nc.Subscribe(auth.DefaultSubject, func(m *nats.Msg) { _ = m.RespondMsg(&nats.Msg{Data: reply.Data, Header: reply.Header}) })
		if err != nil || nc.Flush() != nil {
			t.Fatal(err)
		}
		speakSearched(t, g, `{"type":"auth","token":"`+quoted+`"}`)
		askSearched(t, g, http.MethodPost, "/v1/ack", `{"epoch":"x","seq":1}`, "Authorization", "Bearer "+quoted)
		_ = sub.Unsubscribe()
	}
	for range 4 { // nobody answers, until the breaker opens
		speakSearched(t, g, `{"type":"auth","token":"`+canary("unanswered")+`"}`)
	}
}

// secretsOfOperators are passwords and keys that are wrong, or stand in addresses or files that are.
func secretsOfOperators(t *testing.T, dir, users string) {
	t.Helper()
	locked := streamstest.RunProcess(t, streamstest.WithConfig(fmt.Sprintf("authorization { user: gateway, password: %q }", canary("password"))))
	host := strings.TrimPrefix(locked.URL(), "nats://")
	with := func(credentials string) string { return "nats://" + credentials + "@" + host }
	for _, url := range []string{
		with("gateway:" + canary("wrong")), with(canary("token")), "nats://u:" + canary("p") + "@127.0.0.1:1", "nats://u:" + canary("p/q") + "@x",
		"nats://u:" + canary("p%zz") + "@127.0.0.1:1", "u:" + canary("p") + "@nowhere.invalid", "http://u:" + canary("p") + "@127.0.0.1:1",
		with("gateway:"+canary("wrong")) + "," + with(canary("token")),
	} {
		for _, args := range [][]string{
			{"gateway", "--listen", "127.0.0.1:0"}, {"responder", "--users", users}, {"publish", "alice", "1"}, {"users"}, {"disconnect", "alice"}, {"doctor"},
		} {
			if args[0] != "publish" && url != with("gateway:"+canary("wrong")) {
				continue // connects as that does
			}
			toolSearched(t, "", append(args, "--nats", url)...)
		}
	}
	toolSearched(t, "TIDINGS_NATS_PASSWORD="+canary("wrong"), "publish", "alice", "1", "--nats", locked.URL(), "--nats-user", "gateway")
	toolSearched(t, "TIDINGS_NATS_TOKEN="+canary("wrong"), "publish", "alice", "1", "--nats", locked.URL())
	toolSearched(t, "TIDINGS_API_KEY="+canary("")+","+canary("a key with spaces"), "gateway", "--data", filepath.Join(dir, "no"))
	toolSearched(t, "", "gateway", "--data", filepath.Join(dir, "no"), "--api-keys", canary("a-key-and-no-file"))
	spaces := filepath.Join(dir, "spaces")
	if err := os.WriteFile(spaces, []byte(canary("a key with spaces")), 0o600); err != nil {
		t.Fatal(err)
	}
	toolSearched(t, "", "gateway", "--listen", "127.0.0.1:0", "--api-keys", spaces, "--nats", locked.URL())
	broken := filepath.Join(dir, "broken")
	for _, text := range []string{`{"` + canary("x") + `":17}`, `{"` + canary("x") + `":{"user":"a"},`, canary("x"), `["` + canary("x") + `"]`} {
		if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		toolSearched(t, "", "responder", "--users", broken, "--nats", locked.URL())
	}
	// The right password, and a server that goes down and returns.
	g := runGateway(t, "--nats", with("gateway:"+canary("password")), "--log-level", "trace")
	toolSearched(t, "", "publish", "alice", "1", "--nats", with("gateway:"+canary("password")))
	locked.Kill()
	streamstest.Eventually(t, longer, func() error {
		if !g.logged("NATS connection lost") {
			return fmt.Errorf("it does not notice")
		}
		return nil
	})
	locked.Restart()
	streamstest.Eventually(t, longer, func() error {
		if !g.logged("NATS reconnected") {
			return fmt.Errorf("it does not come back")
		}
		return nil
	})
	if code := g.terminate(longer); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// askSearched makes a request and searches the answer, of which it reads what comes soon.
func askSearched(t *testing.T, g *gateway, method, path, body string, headers ...string) (status int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longer)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+g.listen+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	all, _ := io.ReadAll(response.Body)
	var head bytes.Buffer
	_ = response.Header.Write(&head)
	secrets.Search(method+" "+strings.Split(path, "?")[0], append(head.Bytes(), all...))
	return response.StatusCode, string(all)
}

// speakSearched sends frames, and searches what comes until the gateway closes the connection, or has served the last of them.
func speakSearched(t *testing.T, g *gateway, frames ...string) {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), g.url()+wire.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	go func() {
		for _, frame := range frames {
			_ = ws.WriteMessage(websocket.TextMessage, []byte(frame))
		}
		_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"auth"}`)) // for which it closes, at the latest
	}()
	_ = ws.SetReadDeadline(time.Now().Add(longer))
	for {
		_, text, err := ws.ReadMessage()
		if err != nil {
			secrets.Search("a close frame", []byte(err.Error()))
			return
		}
		secrets.Search("a frame", text)
	}
}
