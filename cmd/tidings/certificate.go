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

// tlsFlags say how clients are kept from being overheard.
type tlsFlags struct {
	cert, key string
	byProxy   bool
}

func (f *tlsFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "tls-cert", "", "file with the certificate for clients and its chain; read again when it changes, and on SIGHUP")
	flags.StringVar(&f.key, "tls-key", "", "file with the certificate's key")
	flags.BoolVar(&f.byProxy, "tls-by-proxy", false, "a proxy in front does TLS: allows --listen on other addresses than loopback without a certificate")
}

// check refuses to have tokens and notifications go over a network as they are.
func (f *tlsFlags) check(listen string) error {
	switch {
	case (f.cert == "") != (f.key == ""):
		return errors.New("--tls-cert and --tls-key belong together")
	case f.cert == "" && !f.byProxy && !isLoopback(hostOf(listen)) && hasPort(listen):
		return fmt.Errorf("--listen %s: tokens and notifications would be readable on the network: give --tls-cert and --tls-key, "+
			"or --tls-by-proxy if a proxy in front of it does TLS, or listen on 127.0.0.1", listen)
	}
	return nil
}

// certificate is what clients are shown. A connection keeps the one it was made with.
type certificate struct {
	tlsFlags
	log  zerolog.Logger
	pair atomic.Pointer[tls.Certificate]
}

// expiresSoon is when an operator should hear that a certificate is not renewed.
const expiresSoon = 14 * 24 * time.Hour

// watch reads the certificate, if there is one, and has it read again whenever it changes.
func (f *tlsFlags) watch(r *reloader, log zerolog.Logger) (*certificate, error) {
	if f.cert == "" {
		return nil, nil
	}
	c := &certificate{tlsFlags: *f, log: log}
	r.daily = append(r.daily, func() { c.warn(time.Now()) })
	return c, r.add(&reloading{what: "the certificate", files: []string{f.cert, f.key}, load: c.load, log: log})
}

// load reads the files. The pair that was read before stays if they are not one.
func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s and --tls-key %s: %w (both are PEM: the certificate first and then its chain; and its key)", c.cert, c.key, err)
	}
	warnOfReaders(c.log, "key of the certificate", c.key)
	c.pair.Store(&pair)
	c.warn(time.Now())
	return nil
}

// warn tells if the certificate ends soon.
func (c *certificate) warn(now time.Time) {
	if leaf := c.pair.Load().Leaf; leaf.NotAfter.Sub(now) < expiresSoon {
		c.log.Warn().Str("file", c.cert).Time("expires", leaf.NotAfter).Msg("the certificate expires soon, or has expired: put a new one into the file")
	}
}

// expires is when it ends; nil where there is none.
func (c *certificate) expires() func() time.Time {
	if c == nil {
		return nil
	}
	return func() time.Time { return c.pair.Load().Leaf.NotAfter }
}

// config is that of the listener for clients. WebSockets want HTTP/1.1.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
	}
}
