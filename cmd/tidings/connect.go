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

// natsFlags say how to reach NATS.
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

// checkNATSFlags refuses what says nothing alone, for every command that has natsFlags.
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
		return errors.New("--nats-password (or TIDINGS_NATS_PASSWORD) is for a --nats-user: name one")
	case given("nats-cert") != given("nats-key"):
		return errors.New("--nats-cert and --nats-key belong together: a client certificate for NATS, and its key")
	}
	return nil
}

// checkNATSURLs refuses URLs, separated by commas, that nats.go would take for another server than was meant, such as http://host and nats//host.
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
			return fmt.Errorf("--nats %s: not a URL of a server (use one such as nats://127.0.0.1:4222; in a password write / as %%2F, and so on)",
				redacted(server))
		case !slices.Contains([]string{"nats", "tls", "tcp", "ws", "wss"}, u.Scheme):
			return fmt.Errorf("--nats %s: NATS does not speak %s (use nats://%[3]s, or tls://, ws:// or wss:// and the port for that)",
				redacted(server), u.Scheme, u.Host)
		case strings.Trim(u.Path, "/") != "" && u.Scheme != "ws" && u.Scheme != "wss":
			return fmt.Errorf("--nats %s: a server is nats://HOST:PORT, without a path", redacted(server))
		}
	}
	return nil
}

// connect connects once, and then for good: the connection comes back by itself whenever NATS does.
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
		hint := "is it running? and is that its port for clients? tidings gateway --dev has a NATS of its own"
		if errors.Is(err, nats.ErrAuthorization) {
			hint = "give --creds, --nats-user and --nats-password, or --nats-token"
		}
		return nil, fmt.Errorf("connect to NATS at %s: %w (%s)", redacted(server), err, hint)
	}
	return nc, nil
}

// redacted is the URL, or the list of them, without what stands before the @: a user and password, or a token.
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

// natsOptions are those of every connection that we make.
func natsOptions(name string, log zerolog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // or credentials that are wrong for a moment would end it for good
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("NATS is away; reconnecting")
			}
		}),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2), // or a link that died without a word stays for 6 minutes
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info().Str("url", redacted(nc.ConnectedUrl())).Msg("NATS is back") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrBadHeaderMsg) {
				return // once for each such message: the Tail names the publisher, once a minute
			}
			log.Error().Err(err).Msg("NATS") // such as a permission that is missing
		}),
	}
}

// streamFlags say which stream, and what a gateway wants of it.
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
