package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/tidings-io/tidings/delivery/client"
)

// newTLSServer returns a server with a certificate, and a pool that trusts it.
func newTLSServer(t *testing.T) (*server, *x509.CertPool) {
	s := &server{t: t, peers: make(chan *peer, 64)}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	return s, trusted
}

// wantEnd checks that Run ends after the first attempt, with an error that wraps kind and contains
// hint.
func wantEnd(t *testing.T, r *run, kind error, hint string) {
	t.Helper()
	if err := r.wait(); !errors.Is(err, kind) || !strings.Contains(err.Error(), hint) {
		t.Errorf("Run = %v, want %v and %q", err, kind, hint)
	}
	r.want("connecting", "closed")
}

func TestWrongScheme(t *testing.T) {
	secure, _ := newTLSServer(t)
	host := secure.Listener.Addr().String()
	wantEnd(t, start(secure, func(cfg *client.Config) { cfg.URL = "ws://" + host }), client.ErrScheme, "(use wss://"+host+")")

	plain := newServer(t)
	host = plain.Listener.Addr().String()
	wantEnd(t, start(plain, func(cfg *client.Config) { cfg.URL = "wss://" + host }), client.ErrScheme, "(use ws://"+host+", or the TLS port)")

	// A server that closes connections without TLS and sends no answer, as some proxies do.
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	go func() {
		for {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			_ = tls.Server(noAlerts{conn}, secure.TLS).Handshake()
			_ = conn.Close()
		}
	}()
	host = front.Addr().String()
	wantEnd(t, start(secure, func(cfg *client.Config) { cfg.URL = "ws://" + host }), client.ErrScheme, "(use wss://"+host+")")
}

// noAlerts is a connection that does not send TLS alerts.
type noAlerts struct{ net.Conn }

func (s noAlerts) Write(p []byte) (int, error) {
	if alert := byte(21); len(p) > 0 && p[0] == alert {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func TestUntrustedCertificate(t *testing.T) {
	s, trusted := newTLSServer(t)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for hint, cfg := range map[string]struct {
		host string
		tls  *tls.Config
	}{
		"trust its authority in Config.Dialer":                 {"127.0.0.1", &tls.Config{}},
		"use a host in Config.URL that the certificate is for": {"localhost", &tls.Config{RootCAs: trusted}},
		"renew it, or correct the clock of this machine": {"127.0.0.1", &tls.Config{
			RootCAs: trusted, Time: func() time.Time { return s.Certificate().NotAfter.Add(time.Hour) },
		}},
	} {
		wantEnd(t, start(s, func(c *client.Config) {
			c.URL, c.Dialer = "wss://"+net.JoinHostPort(cfg.host, port), &websocket.Dialer{TLSClientConfig: cfg.tls}
		}), client.ErrCertificate, hint)
	}
}

// The client retries: the certificate was valid, and will be renewed.
func TestCertificateExpiresAfterFirstConnection(t *testing.T) {
	s, trusted := newTLSServer(t)
	var expired atomic.Bool
	r := start(s, func(cfg *client.Config) {
		cfg.Dialer = &websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: trusted, Time: func() time.Time {
			if expired.Load() {
				return s.Certificate().NotAfter.Add(time.Hour)
			}
			return time.Now()
		}}}
	})
	p := s.accept()
	p.admit(ready(0))
	expired.Store(true)
	_ = p.ws.Close()
	r.until("waiting")
	r.until("connecting")
	r.until("waiting")
	if err := r.reason(client.Waiting); !errors.Is(err, client.ErrCertificate) {
		t.Errorf("waits with error %v", err)
	}
	expired.Store(false)
	s.accept().admit(ready(0))
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

// If nothing listens on the port, the client does not dial a second time to check for TLS.
func TestUnreachableServerIsDialedOnce(t *testing.T) {
	s := newServer(t)
	s.Close()
	var dials atomic.Int32
	r := start(s, func(cfg *client.Config) {
		cfg.Dialer = &websocket.Dialer{NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}
		cfg.MinBackoff, cfg.MaxBackoff = time.Hour, time.Hour
	})
	r.want("connecting", "waiting")
	if n := dials.Load(); n != 1 {
		t.Errorf("%d dials, want 1", n)
	}
}
