package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams"
)

// gatewayOptions are the flags of `tidings gateway`.
type gatewayOptions struct {
	log    logFlags
	nats   natsFlags
	tls    tlsFlags
	stream streamFlags
	limits limitFlags

	dev            bool
	listen         string
	adminListen    string
	data           string
	natsHost       string
	natsPort       int
	sync           syncFlag
	maxStore       int64
	tail           int64
	commitInterval time.Duration
	maxDevices     int
	authSubject    string
	authTimeout    time.Duration
	authWithin     time.Duration
	ping           time.Duration
	drain          time.Duration
	drainDelay     time.Duration
	origins        []string
	apiKeys        string
	tokenCookie    string

	given func(flag string) bool // whether the flag, or its environment variable, is set
}

func (o *gatewayOptions) add(flags *pflag.FlagSet) {
	flags.SortFlags, o.given = false, flags.Changed
	flags.BoolVar(&o.dev, "dev", false, "try it out: data in ./tidings-data, a demo page at /, the token is the user's name; loopback only")
	heading(flags, "Flags")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address for clients")
	o.tls.add(flags)
	flags.StringVar(&o.adminListen, "admin-listen", "127.0.0.1:8081", "address for operators: /livez, /readyz, /metrics, /debug/pprof; '' for none")
	heading(flags, "Addresses and TLS")

	flags.StringArrayVar(&o.origins, "origin", nil, "origin of web pages or apps that may connect, beside the gateway's own, such as https://app.example or capacitor://localhost; repeat for more")
	flags.StringVar(&o.apiKeys, "api-keys", "", "file of keys for the HTTP API, one a line, read again when it changes; or keys in "+keyVariable+". Without one it is off")
	flags.StringVar(&o.tokenCookie, "token-cookie", "", "name of a cookie in which browsers may send the token, from pages of --origin and of the same host")
	heading(flags, "Web pages and the HTTP API")

	flags.StringVar(&o.data, "data", "", "run an embedded NATS server with its data in this directory")
	flags.StringVar(&o.natsHost, "nats-host", "127.0.0.1", "address of the embedded server")
	flags.IntVar(&o.natsPort, "nats-port", 4222, "port of the embedded server; -1 any that is free; 0 none, with --dev alone, which answers for tokens itself")
	flags.Var(&o.sync, "sync", `when the embedded server flushes to disk: "always", before each acknowledgement, or at an interval such as 1s`)
	flags.Int64Var(&o.maxStore, "max-store", 0, "bytes of messages that the embedded server stores before it rejects publishing (default: the free space at the start, less a reserve)")
	heading(flags, "Embedded NATS server")
	o.nats.add(flags, "")

	o.stream.addName(flags)
	o.stream.addLimits(flags)
	heading(flags, "Stream")

	flags.Int64Var(&o.tail, "tail", 256, "MiB of the newest notifications to keep in memory")
	durationVar(flags, &o.commitInterval, "commit-interval", 5*time.Second, "minimum time between two commits of a connected user's position")
	flags.IntVar(&o.maxDevices, "max-devices", 10, "maximum devices of a user that have a position of their own")
	durationVar(flags, &o.ping, "ping", 25*time.Second, "time between pings to clients")
	heading(flags, "Delivery")

	flags.StringVar(&o.authSubject, "auth-subject", auth.DefaultSubject, "NATS subject on which the backend is asked about tokens")
	durationVar(flags, &o.authTimeout, "auth-timeout", 3*time.Second, "time for the backend to answer")
	durationVar(flags, &o.authWithin, "auth-within", 10*time.Second, "time for a client to send its token")
	heading(flags, "Authentication")

	durationVar(flags, &o.drain, "drain", 10*time.Second, "time over which connections are closed at shutdown: less if there are few, all at once if it is 2s or less; a second signal shortens it")
	durationVar(flags, &o.drainDelay, "drain-delay", 0, "time before that in which /readyz fails and clients are still served, for load balancers to notice")
	heading(flags, "Shutdown")

	o.limits.add(flags)
	heading(flags, "Limits")
	o.log.add(flags)
}

// check applies the defaults of --dev, and rejects wrong values and combinations of flags.
func (o *gatewayOptions) check() error {
	if o.dev && o.data == "" && o.nats.url == "" {
		o.data = "./tidings-data"
	}
	switch {
	case o.nats.url == "" && o.data == "":
		return errors.New("no NATS server: set --nats URL to use one, or --data DIR to run an embedded one, or --dev to try it out")
	case o.nats.url != "" && o.data != "":
		return errors.New("--nats and --data (or TIDINGS_NATS and TIDINGS_DATA) exclude each other: set --nats to use a server, or --data to run one")
	case o.natsPort < -1 || o.natsPort > 65535:
		return fmt.Errorf("--nats-port %d: must be 1 to 65535, -1 for any free port, or 0 for none", o.natsPort)
	case o.nats.url != "" && o.sync.set:
		return errors.New("--sync applies only to the embedded server (with --nats, set sync_interval in the configuration of that server)")
	}
	for _, flag := range []string{"nats-host", "nats-port", "max-store"} {
		if o.nats.url != "" && o.given(flag) {
			return fmt.Errorf("--%s applies only to the embedded server, and with --nats there is none: remove it", flag)
		}
	}
	for _, f := range []struct {
		flag string
		d    time.Duration
	}{
		{"commit-interval", o.commitInterval}, {"auth-timeout", o.authTimeout}, {"auth-within", o.authWithin}, {"ping", o.ping}, {"drain", o.drain},
	} {
		if f.d <= 0 {
			return fmt.Errorf("--%s %s: must be positive", f.flag, f.d)
		}
	}
	for _, f := range []number{{"tail", float64(o.tail)}, {"max-devices", float64(o.maxDevices)}} {
		if f.n < 1 {
			return fmt.Errorf("--%s %.0f: must be positive", f.flag, f.n)
		}
	}
	if err := notNegative([]number{
		{"drain-delay", float64(o.drainDelay)}, {"max-store", float64(o.maxStore)}, {"max-notification", float64(o.stream.cfg.MaxNotification)},
		{"duplicates", float64(o.stream.cfg.Duplicates)}, {"replicas", float64(o.stream.cfg.Replicas)}, {"cursor-replicas", float64(o.stream.cfg.CursorReplicas)},
	}); err != nil {
		return err
	}
	if o.authTimeout > 30*time.Second { // a disconnect during authentication is remembered no longer than that
		return fmt.Errorf("--auth-timeout %s: must be at most 30s", o.authTimeout)
	}
	if o.stream.cfg.MaxNotification > streams.LargestNotification {
		return fmt.Errorf("--max-notification %d: NATS stores at most %d bytes (publish a reference to larger data)",
			o.stream.cfg.MaxNotification, streams.LargestNotification)
	}
	if o.dev {
		for _, f := range [][2]string{{"listen", o.listen}, {"nats-host", o.natsHost}} {
			if !isLoopback(hostOf(f[1])) && (f[0] != "listen" || hasPort(f[1])) { // without a port, listen reports the error
				return fmt.Errorf("--%s %s: not allowed with --dev, which accepts any token for any user (use a loopback address such as 127.0.0.1)", f[0], f[1])
			}
		}
		for _, server := range strings.Split(o.nats.url, ",") {
			if server != "" && !isLoopback(hostOf(server[strings.LastIndexAny(server, "@/")+1:])) {
				return fmt.Errorf("--nats %s: not allowed with --dev, which accepts any token at every gateway on that server (use a server on this machine)",
					redacted(server))
			}
		}
	}
	if o.tokenCookie != "" && len(o.origins) == 0 {
		return errors.New("--token-cookie without --origin: set --origin to the pages from which the cookie is accepted")
	}
	return errors.Join(o.tls.check(o.listen), o.checkEmbedded(), o.limits.check(), delivery.CheckOrigins(o.origins))
}

// maxHeaders is the number of bytes allowed for the headers of a message, beside its data.
const maxHeaders = 64 << 10

// openMargin is how long a client may wait between its token and the ready frame, in addition to --auth-timeout: for its turn to be
// authenticated, and for NATS. With the default --auth-timeout the sum is one second less than the silence after which our clients reconnect.
const openMargin = 11 * time.Second

// maxPayload returns max_payload of the embedded server: enough for the largest notification, and at least the 1 MiB of nats-server.
func (o *gatewayOptions) maxPayload() int32 {
	return int32(max(1<<20, o.stream.cfg.MaxNotification+maxHeaders))
}

// listenHint returns what to do if listening on the address of the flag failed with err.
func listenHint(flag string, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && flag == "admin-listen":
		return "is another gateway running? use another --admin-listen, or --admin-listen '' for none"
	case errors.Is(err, syscall.EADDRINUSE):
		return "is another gateway running? use another --" + flag
	case errors.Is(err, fs.ErrPermission):
		return "use --" + flag + " with a port above 1023"
	}
	return "use --" + flag + " with an address of this machine, such as 127.0.0.1:8080"
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

func hasPort(address string) bool {
	_, _, err := net.SplitHostPort(address)
	return err == nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// syncFlag is the value of --sync: "always", which is the zero value, or an interval.
type syncFlag struct {
	interval time.Duration
	set      bool
}

func (s *syncFlag) Type() string { return "when" }

func (s *syncFlag) String() string {
	if s.interval == 0 {
		return "always"
	}
	return s.interval.String()
}

func (s *syncFlag) Set(value string) error {
	s.set = true
	if value == "always" {
		s.interval = 0
		return nil
	}
	d, err := streams.ParseDuration(value)
	if err != nil || d < time.Millisecond {
		return errors.New(`use "always", or an interval from 1ms, such as 1s`)
	}
	s.interval = d
	return nil
}
