package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/websocket"
)

// TLS errors that retrying does not fix. Run returns an error that wraps one of them if it happens
// before the first connection. After a connection has succeeded, the server may be in the middle of
// a change, and the client retries.
var (
	// ErrScheme: the URL is ws:// and the port requires TLS, or it is wss:// and the port does not
	// use TLS, or the port uses another protocol.
	ErrScheme = errors.New("wrong scheme")
	// ErrCertificate: the server's certificate is not trusted, has expired, or is for another host.
	ErrCertificate = errors.New("certificate not trusted")
)

// explainTLS returns an error that wraps ErrScheme or ErrCertificate if that is why a dial failed,
// or nil. If response is not nil, it is the HTTP response that the server sent instead of the
// upgrade. For ws:// it probes the server for TLS, but only if first is set: no dial has succeeded
// before.
func explainTLS(ctx context.Context, dialer *websocket.Dialer, address string, response *http.Response, err error, first bool) error {
	u, unparsed := url.Parse(address)
	if unparsed != nil {
		return nil // impossible: withDefaults has parsed it
	}
	var untrusted *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("%w: %w (%s)", ErrCertificate, err, certificateHint(err))
	case errors.As(err, &noTLS):
		return fmt.Errorf("%w: the port does not use TLS (use ws://%s, or the TLS port)", ErrScheme, u.Host)
	case u.Scheme == "ws" && first && mayBeTLS(response, err) && speaksTLS(ctx, dialer, u):
		return fmt.Errorf("%w: the port uses TLS (use wss://%s)", ErrScheme, u.Host)
	case first && strings.HasPrefix(err.Error(), "malformed HTTP"): // the error of net/http, which quotes the response
		return fmt.Errorf("%w: the port uses neither HTTP nor TLS (check Config.URL)", ErrScheme)
	}
	return nil
}

// mayBeTLS reports whether a dial over ws:// failed as it does at a TLS port: the server answered
// 400, sent something that is not HTTP, or closed the connection.
func mayBeTLS(response *http.Response, err error) bool {
	if response != nil {
		return response.StatusCode == http.StatusBadRequest
	}
	var op *net.OpError
	var network net.Error
	return !(errors.As(err, &op) && op.Op == "dial") && !(errors.As(err, &network) && network.Timeout())
}

func certificateHint(err error) string {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &host):
		return "use a host in Config.URL that the certificate is for"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew it, or correct the clock of this machine"
	}
	return "to accept it, trust its authority in Config.Dialer"
}

// speaksTLS reports whether the server presents a TLS certificate. It then closes the connection
// without sending anything.
func speaksTLS(ctx context.Context, dialer *websocket.Dialer, u *url.URL) bool {
	shown := false
	probe := *dialer
	probe.NetDialTLSContext = nil
	probe.TLSClientConfig = &tls.Config{
		InsecureSkipVerify: true, // the probe only checks whether there is a certificate
		VerifyConnection: func(tls.ConnectionState) error {
			shown = true
			return errors.New("seen")
		},
	}
	secure := *u
	secure.Scheme = "wss"
	if ws, _, err := probe.DialContext(ctx, secure.String(), nil); err == nil {
		_ = ws.Close()
	}
	return shown
}
