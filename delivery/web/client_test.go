package web_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/web"
)

func TestClient(t *testing.T) {
	for path, handler := range web.Client() {
		file, err := os.ReadFile(strings.TrimPrefix(path, "/"))
		if err != nil {
			t.Fatal(err)
		}
		request := func(method, tag string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("If-None-Match", tag)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w
		}
		w := request(http.MethodGet, "")
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
		if again := request(http.MethodGet, w.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s with its ETag: %d", path, again.Code)
		}
		if head := request(http.MethodHead, ""); head.Code != http.StatusOK || head.Body.Len() > 0 {
			t.Errorf("HEAD %s: %d, %d bytes", path, head.Code, head.Body.Len())
		}
	}
}

// A page waits for the client before it shows anything, so the client has a size limit.
func TestClientIsSmall(t *testing.T) {
	const max = 6 << 10
	for path, handler := range web.Client() {
		plain, packed := httptest.NewRecorder(), httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		handler.ServeHTTP(plain, r)
		r.Header.Set("Accept-Encoding", "br, gzip")
		handler.ServeHTTP(packed, r)
		if n := packed.Body.Len(); n > max || n < max/10 || packed.Header().Get("Content-Encoding") != "gzip" {
			t.Errorf("%s has %d bytes as served, want at most %d: %v", path, n, max, packed.Header())
		}
		if packed.Header().Get("ETag") == plain.Header().Get("ETag") {
			t.Errorf("%s has one ETag for both", path)
		}
		unpacked, err := gzip.NewReader(packed.Body)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(unpacked); err != nil || !bytes.Equal(text, plain.Body.Bytes()) {
			t.Errorf("%s differs from the text without gzip: %v", path, err)
		}
	}
}

// TestClientInNode runs the tests that are written in JavaScript.
func TestClientInNode(t *testing.T) {
	node := findNode(t)
	for _, name := range []string{"tidings.test.mjs", "tidings-tabs.test.mjs"} {
		if _, err := os.ReadFile(name); err != nil { // makes the file an input of go test's cache
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), node, "--test").CombinedOutput()
	if err != nil || bytes.Contains(out, []byte(" pass 0\n")) {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}

// findNode returns the path of a Node with a test runner, or skips the test.
func findNode(t *testing.T) string {
	t.Helper()
	missing := "no Node: install nodejs"
	path, err := exec.LookPath("node")
	if err == nil {
		if nodeMajor(t, path) >= 18 {
			return path
		}
		missing = "the tests of the client need Node 18"
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
