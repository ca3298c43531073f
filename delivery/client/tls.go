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

// Errors about TLS that time does not cure. Run returns an error that wraps one of them if it happens before the first connection.
// After a connection has succeeded the server may be changing, and the client retries.
var (
	// ErrScheme: the URL is ws:// and the port speaks TLS, or it is wss:// and the port does not, or the port speaks another protocol.
	ErrScheme = errors.New("wrong scheme")
	// ErrCertificate: the server's certificate is not trusted, has expired, or is for another host.
	ErrCertificate = errors.New("certificate not trusted")
)

// explainTLS returns an error that wraps ErrScheme or ErrCertificate if that is why a dial failed, or nil. Unless response is nil it is
// the answer in place of the upgrade. For ws:// it asks the server, and only if first is true: no dial has succeeded before.
func explainTLS(ctx context.Context, dialer *websocket.Dialer, address string, response *http.Response, err error, first bool) error {
	u, unparsed := url.Parse(address)
	if unparsed != nil {
		return nil // withDefaults made it of a URL
	}
	var untrusted *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("%w: %w (%s)", ErrCertificate, err, certificateHint(err))
	case errors.As(err, &noTLS):
		return fmt.Errorf("%w: the port does not speak TLS (use ws://%s, or the port that does)", ErrScheme, u.Host)
	case u.Scheme == "ws" && first && mayBeTLS(response, err) && speaksTLS(ctx, dialer, u):
		return fmt.Errorf("%w: the port speaks TLS (use wss://%s)", ErrScheme, u.Host)
	case first && strings.HasPrefix(err.Error(), "malformed HTTP"): // as net/http calls it, and quotes what came
		return fmt.Errorf("%w: the port speaks neither HTTP nor TLS (is Config.URL the gateway's?)", ErrScheme)
	}
	return nil
}

// mayBeTLS reports whether a dial over ws:// failed as it does at a port with TLS: the server said 400, sent what is no HTTP, or hung up.
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
		return "name a host in Config.URL that the certificate is for"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew it; is the clock of this machine right?"
	}
	return "if it is right, trust its authority in Config.Dialer"
}

// speaksTLS reports whether the server at the URL shows a certificate. It ends the connection then, and sends nothing.
func speaksTLS(ctx context.Context, dialer *websocket.Dialer, u *url.URL) bool {
	shown := false
	asking := *dialer
	asking.NetDialTLSContext = nil
	asking.TLSClientConfig = &tls.Config{
		InsecureSkipVerify: true, // only to see whether there is one
		VerifyConnection: func(tls.ConnectionState) error {
			shown = true
			return errors.New("seen")
		},
	}
	secure := *u
	secure.Scheme = "wss"
	if ws, _, err := asking.DialContext(ctx, secure.String(), nil); err == nil {
		_ = ws.Close()
	}
	return shown
}
