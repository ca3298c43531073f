package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/streams"
)

// natsFlags are the flags for the connection to NATS.
type natsFlags struct {
	url, creds, user, password, token, inbox, ca, cert, key string
}

func (n *natsFlags) add(flags *pflag.FlagSet, url string) {
	heading(flags, "Flags")
	flags.StringVar(&n.url, "nats", url, "URL of the NATS server, or of several servers of a cluster, separated by commas")
	flags.StringVar(&n.creds, "creds", "", "credentials file for NATS")
	flags.StringVar(&n.user, "nats-user", "", "user name for NATS")
	flags.StringVar(&n.password, "nats-password", "", "password for NATS (better in TIDINGS_NATS_PASSWORD)")
	flags.StringVar(&n.token, "nats-token", "", "token for NATS (better in TIDINGS_NATS_TOKEN)")
	flags.StringVar(&n.inbox, "nats-inbox", "", "prefix of the subjects on which NATS answers this user, if its permissions require one (default _INBOX)")
	flags.StringVar(&n.ca, "nats-ca", "", "file of certificate authorities to trust for NATS")
	flags.StringVar(&n.cert, "nats-cert", "", "client certificate file for NATS, with --nats-key")
	flags.StringVar(&n.key, "nats-key", "", "client key file for NATS")
	heading(flags, "Connection to NATS")
}

// checkNATSFlags rejects a wrong --nats, and flags that have no effect without another one. It works for commands without natsFlags too.
func checkNATSFlags(flags *pflag.FlagSet) error {
	given := func(name string) bool {
		f := flags.Lookup(name)
		return f != nil && f.Value.String() != ""
	}
	if given("nats") {
		if err := checkNATSURLs(flags.Lookup("nats").Value.String()); err != nil {
			return err
		}
	}
	switch {
	case given("nats-password") && !given("nats-user"):
		return errors.New("--nats-password (or TIDINGS_NATS_PASSWORD) without a user name: set --nats-user too")
	case given("nats-cert") != given("nats-key"):
		return errors.New("--nats-cert and --nats-key belong together: set both, or neither")
	}
	return nil
}

// checkNATSURLs checks URLs that are separated by commas. It rejects those that nats.go would read as another server than was meant, such as
// http://host and nats//host.
func checkNATSURLs(urls string) error {
	for server := range strings.SplitSeq(urls, ",") {
		address := strings.TrimSpace(server)
		if !strings.Contains(address, "://") { // as nats.go does
			address = "nats://" + address
		}
		u, err := url.Parse(address)
		port, portErr := uint64(4222), error(nil)
		if err == nil && u.Port() != "" {
			port, portErr = strconv.ParseUint(u.Port(), 10, 16)
		}
		switch {
		case err != nil || u.Hostname() == "" || u.Fragment != "" || portErr != nil || port == 0:
			return fmt.Errorf("--nats %s: not the URL of a server (use one such as nats://127.0.0.1:4222; in a password, escape / as %%2F, and so on)",
				redacted(server))
		case !slices.Contains([]string{"nats", "tls", "tcp", "ws", "wss"}, u.Scheme):
			return fmt.Errorf("--nats %s: unsupported scheme %s (use nats://%[3]s, or tls://, ws:// or wss:// with its port)",
				redacted(server), u.Scheme, u.Host)
		case strings.Trim(u.Path, "/") != "" && u.Scheme != "ws" && u.Scheme != "wss":
			return fmt.Errorf("--nats %s: unexpected path (use nats://HOST:PORT)", redacted(server))
		}
	}
	return nil
}

// connect makes one attempt to connect. Once connected, the connection reconnects by itself, without a limit.
func (n *natsFlags) connect(name string, log zerolog.Logger) (*nats.Conn, error) {
	options := append(natsOptions(name, log), nats.Timeout(5*time.Second))
	if n.creds != "" {
		options = append(options, nats.UserCredentials(n.creds))
	}
	if n.user != "" {
		options = append(options, nats.UserInfo(n.user, n.password))
	}
	if n.token != "" {
		options = append(options, nats.Token(n.token))
	}
	if n.inbox != "" {
		options = append(options, nats.CustomInboxPrefix(n.inbox))
	}
	if n.ca != "" {
		options = append(options, nats.RootCAs(n.ca))
	}
	if n.cert != "" || n.key != "" {
		options = append(options, nats.ClientCert(n.cert, n.key))
	}
	server := cmp.Or(n.url, nats.DefaultURL)
	nc, err := nats.Connect(server, options...)
	if err != nil {
		hint := "is it running? is that its client port? tidings gateway --dev runs an embedded server"
		if errors.Is(err, nats.ErrAuthorization) {
			hint = "set --creds, --nats-user and --nats-password, or --nats-token"
		}
		return nil, fmt.Errorf("connect to NATS at %s: %w (%s)", redacted(server), err, hint)
	}
	return nc, nil
}

// redacted returns the URL, or the list of URLs, without the credentials before the @.
func redacted(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		at := strings.LastIndex(u, "@")
		if at < 0 {
			continue
		}
		list[i] = "xxxxx" + u[at:]
		if scheme, _, found := strings.Cut(u[:at], "://"); found {
			list[i] = scheme + "://" + list[i]
		}
	}
	return strings.Join(list, ",")
}

// natsOptions returns the options of all connections to NATS.
func natsOptions(name string, log zerolog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // otherwise nats.go gives up for good when credentials are rejected twice
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("NATS connection lost; reconnecting")
			}
		}),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2), // with the defaults a dead link goes unnoticed for 6 minutes
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info().Str("url", redacted(nc.ConnectedUrl())).Msg("NATS reconnected") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrBadHeaderMsg) {
				return // nats.go reports every such message; the Tail logs the publisher once a minute
			}
			log.Error().Err(err).Msg("NATS error") // such as a missing permission
		}),
	}
}

// streamFlags are the flags for the stream: its name and its settings.
type streamFlags struct {
	cfg streams.Config
}

func (s *streamFlags) addName(flags *pflag.FlagSet) {
	flags.StringVar(&s.cfg.Name, "stream", streams.DefaultName, "name of the JetStream stream")
}

func (s *streamFlags) addLimits(flags *pflag.FlagSet) {
	durationVar(flags, &s.cfg.MaxAge, "max-age", 0, "how long the stream keeps notifications (default 30d; -1s for ever)")
	flags.Int64Var(&s.cfg.MaxMsgsPerSubject, "max-msgs-per-user", 0, "notifications that the stream keeps for each user or topic (default 1000; -1 all)")
	flags.Int64Var(&s.cfg.MaxBytes, "max-bytes", 0, "bytes that the stream keeps (default: no limit but the server's)")
	flags.IntVar(&s.cfg.MaxNotification, "max-notification", 0, "bytes of data in one notification (default 262144)")
	durationVar(flags, &s.cfg.Duplicates, "duplicates", 0, "time in which notifications with the same id are stored once (default 2m)")
	flags.IntVar(&s.cfg.Replicas, "replicas", 0, "copies of the stream in a cluster (default 1)")
	flags.IntVar(&s.cfg.CursorReplicas, "cursor-replicas", 0, "copies of each user's position (default: as the stream)")
}
