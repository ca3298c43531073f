//go:build linux

package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// TestListenExplainsTLSErrors, and does not retry: neither the scheme nor an unknown authority changes by itself.
func TestListenExplainsTLSErrors(t *testing.T) {
	streamstest.BesideOthers(t)
	dir := t.TempDir()
	makeCertificate(t, dir, "one", time.Hour)
	cert := filepath.Join(dir, "tls.crt")
	g := runGateway(t, "--dev", "--data", t.TempDir(), "--nats-port", "0", "--tls-cert", cert, "--tls-key", filepath.Join(dir, "tls.key"))
	listen := func(ctx context.Context, status io.Writer, args ...string) error {
		root := newRoot()
		root.SetArgs(append([]string{"listen", "--token", "alice"}, args...))
		root.SetErr(status)
		return root.ExecuteContext(ctx)
	}
	_, port, _ := strings.Cut(g.listen, ":")
	for want, args := range map[string][]string{
		"the port uses TLS (use wss://" + g.listen + ")":  {"--url", "ws://" + g.listen},
		"trust its authority with --tls-ca FILE":          {"--url", "wss://" + g.listen},
		"use a host in --url that the certificate is for": {"--url", "wss://localhost:" + port, "--tls-ca", cert},
	} {
		if err := listen(t.Context(), io.Discard, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen %s: %v, want %q", args, err, want)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told, status := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- listen(ctx, status, "--url", "wss://"+g.listen, "--tls-ca", cert); status.Close() }()
	lines := bufio.NewScanner(told)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "# live") {
	}
	stop()
	if _, err := io.Copy(io.Discard, told); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("listen with --tls-ca: %v", err)
	}
}
