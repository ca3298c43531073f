package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// tlsFlags are the flags for TLS to clients.
type tlsFlags struct {
	cert, key string
	byProxy   bool
}

func (f *tlsFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "tls-cert", "", "file with the certificate for clients and its chain; read again when it changes, and on SIGHUP")
	flags.StringVar(&f.key, "tls-key", "", "file with the certificate's key")
	flags.BoolVar(&f.byProxy, "tls-by-proxy", false, "a proxy in front does TLS: allows --listen on other addresses than loopback without a certificate")
}

// check rejects settings with which tokens and notifications would cross a network unencrypted.
func (f *tlsFlags) check(listen string) error {
	switch {
	case (f.cert == "") != (f.key == ""):
		return errors.New("--tls-cert and --tls-key belong together: set both, or neither")
	case f.cert == "" && !f.byProxy && !isLoopback(hostOf(listen)) && hasPort(listen):
		return fmt.Errorf("--listen %s: public address without TLS (use --tls-cert and --tls-key, or --tls-by-proxy behind a proxy that does TLS, "+
			"or listen on 127.0.0.1)", listen)
	}
	return nil
}

// certificate is the certificate presented to clients. It is reloaded when its files change; open connections keep the one that they
// started with.
type certificate struct {
	tlsFlags
	log  zerolog.Logger
	pair atomic.Pointer[tls.Certificate]
}

// expiresSoon is the time before expiry from which on warnings are logged.
const expiresSoon = 14 * 24 * time.Hour

// watch reads the certificate and adds its files to the reloader. It returns nil if no certificate is configured.
func (f *tlsFlags) watch(r *reloader, log zerolog.Logger) (*certificate, error) {
	if f.cert == "" {
		return nil, nil
	}
	c := &certificate{tlsFlags: *f, log: log}
	r.daily = append(r.daily, func() { c.warn(time.Now()) })
	return c, r.add(&reloading{what: "certificate", files: []string{f.cert, f.key}, load: c.load, log: log})
}

// load reads certificate and key. If they are not a valid pair, it returns an error and keeps the previous pair.
func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s and --tls-key %s: %w (both must be PEM: the first file with the certificate and then its chain, the second with its key)", c.cert, c.key, err)
	}
	warnIfWorldReadable(c.log, "key of the certificate", c.key)
	c.pair.Store(&pair)
	c.warn(time.Now())
	return nil
}

// warn logs a warning if the certificate expires soon.
func (c *certificate) warn(now time.Time) {
	if leaf := c.pair.Load().Leaf; leaf.NotAfter.Sub(now) < expiresSoon {
		c.log.Warn().Str("file", c.cert).Time("expires", leaf.NotAfter).Msg("certificate expires soon, or has expired: replace the file")
	}
}

// expires returns a function that returns when the certificate expires. It returns nil if there is no certificate.
func (c *certificate) expires() func() time.Time {
	if c == nil {
		return nil
	}
	return func() time.Time { return c.pair.Load().Leaf.NotAfter }
}

// config returns the TLS configuration of the listener for clients. It allows only HTTP/1.1, which WebSocket upgrades need.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
	}
}
