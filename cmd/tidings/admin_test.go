//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// admin returns the base URL of the admin listener. The gateway need not serve yet.
func (g *gateway) admin() (url string) {
	g.t.Helper()
	at := regexp.MustCompile(`"admin":"(\S+?)"`)
	streamstest.Eventually(g.t, longer, func() error {
		log, err := os.ReadFile(g.log)
		if err != nil {
			return err
		}
		found := at.FindSubmatch(log[g.served:])
		if found == nil {
			return errors.New("it does not say where operators may look")
		}
		url = "http://" + string(found[1])
		return nil
	})
	return url
}

// ready waits until /readyz reports ready, or the reason unless.
func ready(t *testing.T, admin, unless string) {
	t.Helper()
	want, status := unless+"\n", http.StatusServiceUnavailable
	if unless == "" {
		want, status = "ok\n", http.StatusOK
	}
	streamstest.Eventually(t, longer, func() error {
		got, body, err := get(admin + "/readyz")
		if err == nil && (got != status || body != want) {
			err = fmt.Errorf("it says %d %q, want %d %q", got, body, status, want)
		}
		return err
	})
	if got, body, err := get(admin + "/livez"); err != nil || got != http.StatusOK || body != "ok\n" {
		t.Errorf("livez: %d %q %v", got, body, err)
	}
}

// A gateway is alive as long as it runs, and ready while it has NATS and the stream. The listener for clients does not serve health, metrics
// and profiles.
func TestHealth(t *testing.T) {
	streamstest.BesideOthers(t)
	server := streamstest.RunProcess(t)
	server.Kill()
	g := launchGateway(t, "--nats", server.URL())
	admin := g.admin()
	g.signal(syscall.SIGHUP) // which means nothing yet, and ends nothing
	ready(t, admin, "starting")
	server.Restart()
	ready(t, admin, "")
	server.Kill()
	ready(t, admin, "NATS is away")
	server.Restart()
	ready(t, admin, "")

	for _, path := range []string{"/livez", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/vars"} {
		status, _, err := get("http://" + g.listen + path)
		if err != nil || status != http.StatusNotFound {
			t.Errorf("clients get %s: %d %v", path, status, err)
		}
		if strings.Contains(path, "pprof") {
			if status, _, err := get(admin + path); err != nil || status != http.StatusOK {
				t.Errorf("operators get %s: %d %v", path, status, err)
			}
		}
	}
	again := regexp.MustCompile(`(?m)^tidings_nats_reconnects_total [1-9]`) // a server that has just started may drop a connection once more
	if status, text, err := get(admin + "/metrics"); err != nil || status != http.StatusOK || !again.MatchString(text) {
		t.Errorf("metrics: %d %s %v", status, text, err)
	}
	for _, path := range []string{"/", "/debug/pprof/cmdline", "/v1/ws", "/v1/openapi.json", "/tidings.js"} {
		if status, _, err := get(admin + path); err != nil || status != http.StatusNotFound {
			t.Errorf("operators get %s: %d %v", path, status, err)
		}
	}
}

// A web page cannot read the admin listener through a host name of its own (DNS rebinding). Requests by IP address or localhost are allowed,
// and over the network also requests by other names, but not for profiles.
func TestAdminIsAskedByAddress(t *testing.T) {
	t.Parallel()
	a, err := startAdmin("127.0.0.1:0", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	const ok, no = http.StatusOK, http.StatusForbidden
	for host, want := range map[string]struct{ here, health, profiles int }{
		"":                            {ok, ok, ok}, // as HTTP/1.0 has it
		a.address.String():            {ok, ok, ok},
		"localhost:8081":              {ok, ok, ok},
		"LOCALHOST":                   {ok, ok, ok},
		"[::1]:8081":                  {ok, ok, ok},
		"[fd00::1]":                   {ok, ok, ok},
		"10.1.2.3:8081":               {ok, ok, ok}, // as probes of Kubernetes ask
		"evil.example:8081":           {no, ok, no},
		"localhost.evil.example":      {no, ok, no},
		"127.0.0.1.evil.example":      {no, ok, no},
		"tidings.monitoring.svc:8081": {no, ok, no},
	} {
		for _, path := range []string{"/livez", "/debug/pprof/"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.address.String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if host != "" && response.StatusCode != want.here { // a client of Go puts the address there
				t.Errorf("on loopback, %q gets %s: %d, want %d", host, path, response.StatusCode, want.here)
			}
			exposed := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 8081}
			r = r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, exposed))
			status := want.health
			if path != "/livez" {
				status = want.profiles
			}
			w := httptest.NewRecorder()
			if a.Handler.ServeHTTP(w, r); w.Code != status {
				t.Errorf("over the network, %q gets %s: %d, want %d", host, path, w.Code, status)
			}
		}
	}
}
