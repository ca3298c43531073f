package web_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/web"
)

func TestClientIsServed(t *testing.T) {
	for path, handler := range web.Client() {
		file, err := os.ReadFile(strings.TrimPrefix(path, "/"))
		if err != nil {
			t.Fatal(err)
		}
		ask := func(method, tag string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("If-None-Match", tag)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w
		}
		w := ask(http.MethodGet, "")
		if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), file) {
			t.Fatalf("GET %s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
		for name, want := range map[string]string{
			"Content-Type":                "text/javascript; charset=utf-8",
			"X-Content-Type-Options":      "nosniff",
			"Access-Control-Allow-Origin": "*",
			"Cache-Control":               "public, max-age=300",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s: %q, want %q", path, name, got, want)
			}
		}
		if again := ask(http.MethodGet, w.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s with its ETag: %d", path, again.Code)
		}
		if head := ask(http.MethodHead, ""); head.Code != http.StatusOK || head.Body.Len() > 0 {
			t.Errorf("HEAD %s: %d, %d bytes", path, head.Code, head.Body.Len())
		}
	}
}

// A page waits for the client before it shows anything.
func TestClientIsSmall(t *testing.T) {
	const most = 5 << 10
	for path, handler := range web.Client() {
		served := httptest.NewRecorder()
		handler.ServeHTTP(served, httptest.NewRequest(http.MethodGet, path, nil))
		var packed bytes.Buffer
		w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if _, err := w.Write(served.Body.Bytes()); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		t.Logf("%s has %d bytes, gzipped %d", path, served.Body.Len(), packed.Len())
		if packed.Len() > most || packed.Len() < most/10 {
			t.Errorf("%s has %d bytes gzipped, want at most %d", path, packed.Len(), most)
		}
	}
}

// TestClientInNode runs the tests that are written in JavaScript.
func TestClientInNode(t *testing.T) {
	node := findNode(t)
	for _, name := range []string{"tidings.test.mjs", "tidings-tabs.test.mjs"} {
		if _, err := os.ReadFile(name); err != nil { // by whom it is read else, the cache of go test does not see
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), node, "--test").CombinedOutput()
	if err != nil || bytes.Contains(out, []byte(" pass 0\n")) {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}

// findNode finds a Node that has a runner for tests.
func findNode(t *testing.T) string {
	t.Helper()
	missing := "no Node: install nodejs"
	path, err := exec.LookPath("node")
	if err == nil {
		if nodeMajor(t, path) >= 18 {
			return path
		}
		missing = "the tests of the client want Node 18"
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

func nodeMajor(t *testing.T, node string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), node, "--version").Output()
	if err != nil {
		t.Fatalf("node --version: %v", err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		t.Fatalf("node --version: %q", out)
	}
	return n
}
