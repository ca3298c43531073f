package delivery_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	listed := []string{"https://app.example", "capacitor://localhost", "ionic://localhost", "tauri://localhost",
		"chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb", "moz-extension://2f4f3c1e-2c3a-4a8e-9d4c-0f2a1b3c4d5e"}
	if err := delivery.CheckOrigins(listed); err != nil {
		t.Fatal(err)
	}
	n := newTown(t, func(c *nodeConfig) { c.delivery.Origins = listed })
	type from struct{ origin, host string }
	cases := map[from]int{
		{"", ""}:                                           http.StatusSwitchingProtocols,
		{"http://" + n.address, ""}:                        http.StatusSwitchingProtocols,
		{"https://push.example", "push.example"}:           http.StatusSwitchingProtocols,
		{"https://push.example", "push.example:443"}:       http.StatusSwitchingProtocols,
		{"https://push.example", "PUSH.example:443"}:       http.StatusSwitchingProtocols,
		{"http://push.example", "push.example:80"}:         http.StatusSwitchingProtocols,
		{"https://[2001:db8::1]", "[2001:db8::1]:443"}:     http.StatusSwitchingProtocols,
		{"https://push.example:8443", "push.example:8443"}: http.StatusSwitchingProtocols,
		{"https://push.example", "push.example:8443"}:      http.StatusForbidden,
		{"https://push.example:8443", "push.example"}:      http.StatusForbidden,
		{"http://push.example", "push.example:443"}:        http.StatusForbidden,
		{"capacitor://push.example", "push.example"}:       http.StatusForbidden,
		{"https://", ":443"}:                               http.StatusForbidden,
		{"https://app.example.evil", ""}:                   http.StatusForbidden,
		{"https://evil.app.example", ""}:                   http.StatusForbidden,
		{"http://app.example", ""}:                         http.StatusForbidden,
		{"https://app.example:8443", ""}:                   http.StatusForbidden,
		{"null", ""}:                                       http.StatusForbidden,
		{"null", "null"}:                                   http.StatusForbidden,
		{"file://", ""}:                                    http.StatusForbidden,
		{"capacitor://evil", ""}:                           http.StatusForbidden,
	}
	for _, origin := range listed {
		cases[from{origin, ""}] = http.StatusSwitchingProtocols
	}
	for c, want := range cases {
		if got := n.upgrade(t, c.origin, c.host); got != want {
			t.Errorf("origin %q at %q: %d, want %d", c.origin, c.host, got, want)
		}
	}
}

// upgrade asks for a WebSocket as a page does, and returns the status.
func (n *node) upgrade(t *testing.T, origin, host string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.address+wire.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for name, value := range map[string]string{
		"Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// What no browser ever sends is refused, with what it does send.
func TestOriginsThatMatchNothingAreRefused(t *testing.T) {
	t.Parallel()
	for origin, hint := range map[string]string{
		"https://x:443":               "browsers send https://x, write that",
		"http://x:80":                 "browsers send http://x, write that",
		"https://x:0443":              "browsers send https://x, write that",
		"https://x:":                  "browsers send https://x, write that",
		"https://App.Example/":        "browsers send https://app.example, write that",
		"HTTPS://app.example":         "browsers send https://app.example, write that",
		"https://müller.example":      "browsers send https://xn--mller-kva.example, write that",
		"https://MÜLLER.example":      "browsers send https://xn--mller-kva.example, write that",
		"https://[2001:DB8:0::1]":     "browsers send https://[2001:db8::1], write that",
		"Capacitor://localhost":       "browsers send capacitor://localhost, write that",
		"capacitor://localhost/":      "browsers send capacitor://localhost, write that",
		"https://app.example/inbox":   "write https://app.example",
		"https://*.example":           "a star matches nothing",
		"*":                           "a star matches nothing",
		"null":                        "serve the page by HTTP",
		"file://":                     "serve the page by HTTP",
		"wss://push.example":          "name the page",
		"https://x:99999":             "at most 65535",
		"app.example":                 "such as https://app.example",
		"localhost:3000":              "such as https://app.example",
		"https://":                    "such as https://app.example",
		"https://:8443":               "such as https://app.example",
		"capacitor://:1":              "such as https://app.example",
		"ionic://localhost:":          "browsers send ionic://localhost, write that",
		"https://bob@app.example":     "such as https://app.example",
		"https://app.example?x":       "such as https://app.example",
		"https://app example":         "such as https://app.example",
		"https://a.example,https://b": "name one origin at a time",
		"":                            "such as https://app.example",
	} {
		if err := delivery.CheckOrigins([]string{"https://ok.example", origin}); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: %v, want %q", origin, err, hint)
		}
	}
	for _, origin := range []string{"https://my_app.example", "http://localhost:3000", "http://127.0.0.1:3000", "https://xn--mller-kva.example", "http://tauri.localhost",
		"https://app.example.", "http://[::1]:3000", "safari-web-extension://E1B8B2B6-0000-4000-8000-000000000000"} {
		if err := delivery.CheckOrigins([]string{origin}); err != nil {
			t.Error(err)
		}
	}
}
