package web_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/web"
)

func get(t *testing.T, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	web.Demo(`a"key`).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Result(), w.Body.String()
}

func TestDemo(t *testing.T) {
	resp, page := get(t, "/")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(page, "<!doctype html>") {
		t.Fatalf("GET /: %s, %d bytes", resp.Status, len(page))
	}
	if got := resp.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type: %q", got)
	}
	if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options: %q", got)
	}
	policy := strings.Split(resp.Header.Get("Content-Security-Policy"), "; ")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		found := false
		for _, directive := range policy {
			found = found || directive == want
		}
		if !found {
			t.Errorf("Content-Security-Policy %q lacks %s", policy, want)
		}
	}
	if !strings.Contains(page, `<meta name="tidings-key" content="a&#34;key">`) {
		t.Error("the page has no key")
	}
	for path, want := range map[string]string{"/demo.js": "text/javascript; charset=utf-8", "/demo.css": "text/css; charset=utf-8"} {
		if resp, _ := get(t, path); resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != want {
			t.Errorf("GET %s: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
	}
	if resp, _ := get(t, "/nothing-here"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET /nothing-here: %s", resp.Status)
	}
}

// The page must work without internet access, and must never turn data into markup.
// TestDemoInBrowser checks that it does not; this test guards against future changes.
func TestDemoSource(t *testing.T) {
	var page string
	for _, path := range []string{"/", "/demo.js", "/demo.css"} {
		_, text := get(t, path)
		page += text
	}
	page = strings.ReplaceAll(page, "xmlns='http://www.w3.org/2000/svg'", "") // a namespace; nothing is loaded
	for what, pattern := range map[string]string{
		"an external URL":      `(?i)(https?|wss?):\\?/\\?/|(src|href|action)\s*=\s*["']?//|(?-i:\burl\()|@import`,
		"an external resource": `(?i)<(img|iframe|object|embed|style)\b|\sstyle=|\s(src|href)="[^/#d]|from "[^/]`,
		"markup made of text":  `innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTML|DOMParser|createContextualFragment`,
		"code made of text":    `\beval\b|\bFunction\(|set(Timeout|Interval)\(\s*["'` + "`]",
	} {
		if found := regexp.MustCompile(pattern).FindString(page); found != "" {
			t.Errorf("the page has %s: %q", what, found)
		}
	}
}
