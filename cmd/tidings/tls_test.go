//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// makeCertificate writes tls.crt and tls.key for this machine into the directory, which it makes.
func makeCertificate(t *testing.T, dir, name string, lasts time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: certificate}, "tls.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// pointTo swaps a link, as Kubernetes does when a secret changes.
func pointTo(t *testing.T, link, dir string) {
	t.Helper()
	if err := os.Symlink(dir, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
}

// While the gateway waits for NATS, it presents a renewed certificate and handles SIGHUP, since it responds to clients already.
func TestCertificateIsReadAgainBeforeNATSIsThere(t *testing.T) {
	streamstest.BesideOthers(t)
	dir := t.TempDir()
	current := filepath.Join(dir, "current")
	makeCertificate(t, filepath.Join(dir, "one"), "one", time.Hour)
	makeCertificate(t, filepath.Join(dir, "two"), "two", time.Hour)
	pointTo(t, current, "one")
	g := launchGateway(t, "TIDINGS_API_KEY=first-key-0123456789", "--nats", fmt.Sprintf("nats://127.0.0.1:%d", streamstest.FreePort(t)),
		"--tls-cert", filepath.Join(current, "tls.crt"), "--tls-key", filepath.Join(current, "tls.key"))
	g.shows("one")
	pointTo(t, current, "two")
	g.signal(syscall.SIGHUP)
	g.shows("two")
	if !g.logged("keys in TIDINGS_API_KEY change only with a restart") {
		t.Error("it does not say that keys of a variable stay")
	}
	if code := g.terminate(longer); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Closing the terminal stops a gateway with --dev.
func TestDevEndsWithItsTerminal(t *testing.T) {
	streamstest.BesideOthers(t)
	g := runGateway(t, "--dev", "--data", t.TempDir(), "--nats-port", "0")
	g.signal(syscall.SIGHUP)
	if code := g.ends(); code != -1 {
		t.Errorf("exit code %d", code)
	}
}

// shown returns the name in the certificate that clients get.
func (g *gateway) shown(cfg *tls.Config) (name, protocol string, err error) {
	cfg.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", g.listen, cfg)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	return state.PeerCertificates[0].Subject.CommonName, state.NegotiatedProtocol, nil
}

// shows waits until clients get the certificate with that name.
func (g *gateway) shows(want string) {
	g.t.Helper()
	streamstest.Eventually(g.t, longer, func() error {
		name, _, err := g.shown(&tls.Config{})
		if err == nil && name != want {
			err = fmt.Errorf("clients are shown %q", name)
		}
		return err
	})
}

// A certificate is replaced without a restart, and connected clients stay. Files that are not a valid pair change nothing.
func TestTLS(t *testing.T) {
	streamstest.BesideOthers(t)
	dir := t.TempDir()
	current := filepath.Join(dir, "current")
	for _, name := range []string{"one", "two"} {
		makeCertificate(t, filepath.Join(dir, name), name, map[string]time.Duration{"one": 30 * 24 * time.Hour, "two": 10 * 24 * time.Hour}[name])
	}
	makeCertificate(t, filepath.Join(dir, "mixed"), "mixed", time.Hour)
	other, err := os.ReadFile(filepath.Join(dir, "two", "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mixed", "tls.key"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	pointTo(t, current, "one")
	g := runGateway(t, "--dev", "--data", t.TempDir(), "--nats-port", "0",
		"--tls-cert", filepath.Join(current, "tls.crt"), "--tls-key", filepath.Join(current, "tls.key"))
	if !g.logged("Demo page: https://"+g.listen) || !g.logged("--url wss://"+g.listen) || g.logged("expires soon") {
		t.Error("it prints something else")
	}

	if name, protocol, err := g.shown(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}); err != nil || name != "one" || protocol != "http/1.1" {
		t.Errorf("clients are shown %q, and speak %q (%v)", name, protocol, err)
	}
	if _, _, err := g.shown(&tls.Config{MaxVersion: tls.VersionTLS12}); err != nil {
		t.Error("TLS 1.2:", err)
	}
	if _, _, err := g.shown(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if status, _, err := get("http://" + g.listen + "/tidings.js"); err != nil || status != http.StatusBadRequest {
		t.Errorf("without TLS: %d %v", status, err)
	}

	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ws, _, err := dialer.DialContext(t.Context(), "wss://"+g.listen+"/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	said := func(want string) {
		t.Helper()
		_ = ws.SetReadDeadline(time.Now().Add(longer))
		for {
			_, frame, err := ws.ReadMessage()
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if strings.HasPrefix(string(frame), `{"type":"`+want+`"`) {
				return
			}
		}
	}
	say := func(frame string) {
		t.Helper()
		if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	say(`{"type":"auth","token":"alice"}`)
	said("live")

	pointTo(t, current, "mixed")
	streamstest.Eventually(t, longer, func() error {
		if !g.logged("certificate not reloaded; the previous contents stay in use") {
			return fmt.Errorf("it does not log the error")
		}
		return nil
	})
	g.shows("one")
	_, text, err := get(g.admin() + "/metrics")
	expires := regexp.MustCompile(`(?m)^tidings_certificate_expires_timestamp_seconds (\S+)$`).FindStringSubmatch(text)
	if err != nil || expires == nil || !strings.Contains(text, "\ntidings_reload_failures_total 1\n") {
		t.Fatalf("%v: it says nothing of the certificate, or of one failure: %s", err, text)
	}
	at, err := strconv.ParseFloat(expires[1], 64)
	if in := time.Until(time.Unix(int64(at), 0)); err != nil || in < 29*24*time.Hour || in > 30*24*time.Hour {
		t.Errorf("by the metric the certificate ends in %s (%v)", in, err)
	}
	pointTo(t, current, "two")
	g.shows("two")
	if !g.logged("expires soon") {
		t.Error("a certificate for 10 days is not warned of")
	}
	pointTo(t, current, "one")
	g.shows("one")

	say(`{"type":"ack","seq":1000000}`)
	said("error")
	if code := g.terminate(longer); code != 0 {
		t.Errorf("exit code %d", code)
	}
	said("goaway")
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, 4512) {
		t.Errorf("it is told goodbye by %v", err)
	}
}

// API keys are replaced without a restart. A file without keys changes nothing.
func TestKeysAreReadAgain(t *testing.T) {
	streamstest.BesideOthers(t)
	file := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-key-0123456789\n")
	g := runGateway(t, "--data", t.TempDir(), "--nats-port", "-1", "--api-keys", file)
	good := func(key string, want bool) {
		t.Helper()
		streamstest.Eventually(t, longer, func() error {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+g.listen+"/v1/users/alice/connections", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+key)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			response.Body.Close()
			if is := response.StatusCode == http.StatusOK; is != want || !is && response.StatusCode != http.StatusUnauthorized {
				return fmt.Errorf("%s: %s", key, response.Status)
			}
			return nil
		})
	}
	good("first-key-0123456789", true)
	write("second-key-0123456789\n")
	g.signal(syscall.SIGHUP)
	good("first-key-0123456789", false)
	good("second-key-0123456789", true)
	write("short\n")
	g.signal(syscall.SIGHUP)
	streamstest.Eventually(t, longer, func() error {
		if !g.logged("API keys not reloaded; the previous contents stay in use") {
			return fmt.Errorf("it does not log the error")
		}
		return nil
	})
	if _, text, err := get(g.admin() + "/metrics"); err != nil || strings.Contains(text, "tidings_certificate") || strings.Contains(text, "reload_failures_total 0") {
		t.Errorf("%v: it has a certificate, or no failure: %s", err, text)
	}
	if g.logged("short\n") || g.logged("second-key") {
		t.Error("the log has a key")
	}
	good("second-key-0123456789", true)
	write("third-key-0123456789\n") // and nobody says so
	good("third-key-0123456789", true)
	good("second-key-0123456789", false)
}
