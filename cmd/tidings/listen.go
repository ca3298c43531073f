package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gorilla/websocket"
	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
)

type listenOptions struct {
	url, ca, token, device, origin string
	json, noAck, quiet             bool
	count                          int
}

func newListen() *cobra.Command {
	o := &listenOptions{}
	cmd := &cobra.Command{
		Use: "listen --token TOKEN", SuggestFor: []string{"subscribe", "sub"},
		Short: "Connect as a client and print notifications",
		Long: `Connect to a gateway as a client, print every notification and acknowledge it. It reconnects until it is stopped or refused.
It prints notifications to standard output, and the state of the connection to standard error.`,
		Example: `  tidings listen --token alice
  tidings listen --token alice --device laptop --json | jq .data`,
		Args: onlyToken,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.token == "" {
				return badUsage(cmd, errors.New("give the client's token: --token, or TIDINGS_TOKEN"))
			}
			if o.count < 0 {
				return badUsage(cmd, fmt.Errorf("--count %d: must not be negative", o.count))
			}
			return o.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.token, "token", "", "token of the user; - reads it from standard input")
	flags.StringVar(&o.url, "url", "ws://127.0.0.1:8080", "URL of the gateway: ws://, or wss:// if it has a certificate")
	flags.StringVar(&o.ca, "tls-ca", "", "file of certificate authorities to trust, with wss:// (default: those of the system)")
	flags.StringVar(&o.device, "device", "", "name of a device, which has a position of its own (default: the position that the user's connections share)")
	flags.StringVar(&o.origin, "origin", "", "origin to send, as a browser does")
	flags.BoolVar(&o.json, "json", false, "print msg frames as JSON, one a line")
	flags.BoolVar(&o.noAck, "no-ack", false, "acknowledge nothing: the next connection gets everything again")
	flags.BoolVar(&o.quiet, "quiet", false, "print notifications only")
	flags.IntVar(&o.count, "count", 0, "stop after this many notifications; 0: never")
	return cmd
}

func (o *listenOptions) run(cmd *cobra.Command) error {
	out, status := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if o.token == "-" {
		token, err := readLine(cmd)
		if err != nil {
			return fmt.Errorf("read the token from standard input: %w", err)
		}
		o.token = token
	}
	if o.quiet {
		status = io.Discard
	}
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	seen, hinted := 0, false
	cfg := client.Config{
		URL:       o.url,
		Token:     func(context.Context) (string, error) { return o.token, nil },
		Device:    o.device,
		ManualAck: o.noAck,
		MaxFrame:  256 << 20, // more than a gateway sends, whatever its --max-notification
		OnMessage: func(_ context.Context, m client.Message) error {
			if o.count > 0 && seen >= o.count {
				return context.Canceled // arrived after the last one to print: leave it unacknowledged
			}
			if err := o.print(out, m); err != nil {
				stop(err) // not printed, so it is not acknowledged
				return err
			}
			if seen++; seen == o.count {
				stop(nil)
			}
			return nil
		},
		OnReady: func(r client.Ready) {
			hinted = true // the URL is right
			fmt.Fprintf(status, "# %s: %d unread, from seq %d\n", r.User, r.Unread, r.After)
		},
		OnGap: func(g client.Gap) {
			fmt.Fprintln(status, gapLine(g))
		},
		OnLive: func(seq uint64) { fmt.Fprintf(status, "# live, at seq %d\n", seq) },
		OnAcked: func(seq, unread uint64) {
			fmt.Fprintf(status, "# read elsewhere up to seq %d, %d unread\n", seq, unread)
		},
		OnError: func(err error) { fmt.Fprintln(status, "#", err) },
		OnState: func(s client.State, err error) {
			if err == nil || s == client.Closed {
				return
			}
			hint := ""
			if !hinted && !errors.As(err, new(*client.CloseError)) {
				hint, hinted = " (is the gateway running? is --url right?)", true
			}
			fmt.Fprintf(status, "# %s: %s%s\n", s, inFlags(err.Error()), hint)
		},
	}
	if o.origin != "" {
		cfg.Header = map[string][]string{"Origin": {o.origin}}
	}
	var err error
	if cfg.Dialer, err = o.dialer(); err != nil {
		return err
	}
	c, err := client.New(cfg)
	if err != nil { // only the URL can be wrong
		return badUsage(cmd, errors.New(inFlags(err.Error())))
	}
	err = c.Run(ctx)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return explainClose(err)
}

// dialer returns a dialer that trusts the authorities in the file of --tls-ca, or nil, the default, without that flag.
func (o *listenOptions) dialer() (*websocket.Dialer, error) {
	if o.ca == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca %s: no certificate found (use a PEM file: -----BEGIN CERTIFICATE-----)", o.ca)
	}
	return &websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, HandshakeTimeout: 10 * time.Second, TLSClientConfig: &tls.Config{RootCAs: trusted},
	}, nil
}

// inFlags replaces the fields of client.Config in an error text by the flags that set them.
func inFlags(text string) string {
	return strings.NewReplacer("client: Config.URL", "--url", "Config.URL", "--url", "in Config.Dialer", "with --tls-ca FILE").Replace(text)
}

// explainClose returns the error of package client in terms of flags, with the close code and a hint.
func explainClose(err error) error {
	if errors.Is(err, client.ErrScheme) || errors.Is(err, client.ErrCertificate) {
		return errors.New(inFlags(err.Error()))
	}
	var closed *client.CloseError
	if !errors.As(err, &closed) {
		return err
	}
	text := "closed with " + closed.Code.String()
	if closed.Reason != "" {
		text += ": " + inFlags(closed.Reason)
	}
	switch closed.Code {
	case wire.CloseUnauthorized:
		text += " (is --token valid for this gateway, and not expired?)"
	case wire.CloseForbidden:
		text += " (does the gateway allow this --origin and --token?)"
	}
	return errors.New(text)
}

func (o *listenOptions) print(w io.Writer, m client.Message) error {
	if o.json {
		frame := wire.Append(nil, m.Msg)
		_, err := fmt.Fprintf(w, "%s\n", frame)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  seq %d", m.Time.Local().Format(time.DateTime), m.Seq)
	if m.Topic != "" {
		fmt.Fprintf(&b, "  topic %s", printable(m.Topic))
	}
	if m.Kind != "" {
		fmt.Fprintf(&b, "  %s", printable(m.Kind))
	}
	if m.Replayed {
		b.WriteString("  (replayed)")
	}
	fmt.Fprintf(&b, "  %s\n", readable(m))
	_, err := io.WriteString(w, b.String())
	return err
}

// readable returns the data as text for a terminal: a JSON string without its quotes, and binary data as base64.
func readable(m client.Message) string {
	if m.Data == nil {
		return "base64:" + base64.StdEncoding.EncodeToString(m.DataB64)
	}
	var text string
	if json.Unmarshal(m.Data, &text) != nil {
		return printable(string(m.Data))
	}
	return printable(text)
}

// printable returns s, quoted if it contains characters that could control the terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func gapLine(g client.Gap) string {
	what := fmt.Sprintf("behind seq %d", g.After)
	if g.Next > 0 {
		what = fmt.Sprintf("between seq %d and %d", g.After, g.Next)
	}
	if g.Reason == wire.GapPurged {
		return fmt.Sprintf("# gap (purged): notifications %s were removed, if there were any", what)
	}
	return fmt.Sprintf("# gap (%s): notifications %s may be gone", g.Reason, what)
}
