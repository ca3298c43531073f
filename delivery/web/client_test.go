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
	file, err := os.ReadFile("tidings.js")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/tidings.js", nil)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		web.Client().ServeHTTP(w, r)
		return w
	}
	w := ask(http.MethodGet, "")
	if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), file) {
		t.Fatalf("GET: %d, %d bytes", w.Code, w.Body.Len())
	}
	for name, want := range map[string]string{
		"Content-Type":                "text/javascript; charset=utf-8",
		"X-Content-Type-Options":      "nosniff",
		"Access-Control-Allow-Origin": "*",
		"Cache-Control":               "public, max-age=300",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if again := ask(http.MethodGet, w.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Errorf("with its ETag: %d", again.Code)
	}
	if head := ask(http.MethodHead, ""); head.Code != http.StatusOK || head.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %d bytes", head.Code, head.Body.Len())
	}
}

// A page waits for the client before it shows anything.
func TestClientIsSmall(t *testing.T) {
	const most = 5 << 10
	file, err := os.ReadFile("tidings.js")
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if _, err := w.Write(file); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	t.Logf("tidings.js has %d bytes, gzipped %d", len(file), packed.Len())
	if packed.Len() > most {
		t.Errorf("tidings.js has %d bytes gzipped, want at most %d", packed.Len(), most)
	}
}

// TestClientInNode runs the tests that are written in JavaScript.
func TestClientInNode(t *testing.T) {
	node := findNode(t)
	if _, err := os.ReadFile("tidings.test.mjs"); err != nil { // by whom it is read else, the cache of go test does not see
		t.Fatal(err)
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
