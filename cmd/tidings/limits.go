package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/delivery"
)

// limitFlags are the flags for limits on connections and rates.
type limitFlags struct {
	cfg     delivery.Limits
	proxies []string
	flags   *pflag.FlagSet
}

func (l *limitFlags) add(flags *pflag.FlagSet) {
	l.flags = flags
	d := delivery.DefaultLimits()
	flags.IntVar(&l.cfg.Connections, "max-connections", 0, "maximum connections in all (default: as many as the limit on open files allows)")
	flags.IntVar(&l.cfg.ConnectionsPerAddress, "max-connections-per-address", d.ConnectionsPerAddress,
		"maximum connections from one address, or from one /64 network of IPv6; of this and the limits below, 0 is no limit")
	flags.IntVar(&l.cfg.ConnectionsPerUser, "max-connections-per-user", d.ConnectionsPerUser, "maximum connections of a user to this gateway")
	flags.IntVar(&l.cfg.Unauthenticated, "max-unauthenticated", d.Unauthenticated, "maximum connections in all whose token has not been admitted yet")
	flags.IntVar(&l.cfg.UnauthenticatedPerAddress, "max-unauthenticated-per-address", d.UnauthenticatedPerAddress, "maximum such connections from one address")
	flags.Float64Var(&l.cfg.ConnectRate, "connect-rate", d.ConnectRate,
		"connections, and requests with a user's token, a second from one address; all rates allow bursts of ten seconds")
	flags.Float64Var(&l.cfg.FailedAuthRate, "failed-auth-rate", d.FailedAuthRate, "refused tokens and API keys a second from one address; above it the address is refused without asking the backend")
	flags.IntVar(&l.cfg.SendRate, "send-rate", d.SendRate, "bytes a second that are read from one client, each frame counted with 128 more; a faster client is slowed down and loses nothing")
	flags.Float64Var(&l.cfg.PublishRate, "publish-rate", d.PublishRate, "publish requests a second with one API key (default: no limit)")
	flags.StringArrayVar(&l.proxies, "trusted-proxy", nil, "address, or network such as 10.0.0.0/8, of proxies that name the client in X-Forwarded-For; repeat for more")
}

// number is the value of a numeric flag. Flags are checked in order, so that of two mistakes the same one is reported each time.
type number struct {
	flag string
	n    float64
}

func notNegative(all []number) error {
	for _, f := range all {
		if !(f.n >= 0) { // nor NaN
			return fmt.Errorf("--%s: must not be negative", f.flag)
		}
	}
	return nil
}

// noLimitsPerAddress returns the flags for a gateway whose clients are all on one machine.
func noLimitsPerAddress() []string {
	return []string{"--max-connections-per-address", "0", "--max-unauthenticated-per-address", "0", "--connect-rate", "0", "--failed-auth-rate", "0"}
}

func (l *limitFlags) check() error {
	if err := notNegative([]number{
		{"max-connections", float64(l.cfg.Connections)}, {"max-connections-per-address", float64(l.cfg.ConnectionsPerAddress)},
		{"max-connections-per-user", float64(l.cfg.ConnectionsPerUser)}, {"max-unauthenticated", float64(l.cfg.Unauthenticated)},
		{"max-unauthenticated-per-address", float64(l.cfg.UnauthenticatedPerAddress)}, {"connect-rate", l.cfg.ConnectRate},
		{"failed-auth-rate", l.cfg.FailedAuthRate}, {"send-rate", float64(l.cfg.SendRate)}, {"publish-rate", l.cfg.PublishRate},
	}); err != nil {
		return err
	}
	// At lower rates a client that is slowed down would appear to be silent.
	if minRate := 4 << 10; l.cfg.SendRate != 0 && l.cfg.SendRate < minRate {
		return fmt.Errorf("--send-rate %d: must be at least %d, or 0 for no limit", l.cfg.SendRate, minRate)
	}
	l.cfg.TrustedProxies = nil
	for _, proxy := range l.proxies {
		network, err := netip.ParsePrefix(proxy)
		if address, wrong := netip.ParseAddr(proxy); wrong == nil {
			network, err = address.WithZone("").Prefix(address.BitLen())
		}
		if err != nil {
			return fmt.Errorf("--trusted-proxy %q: not an address or a network (use one such as 10.0.0.0/8)", proxy)
		}
		l.cfg.TrustedProxies = append(l.cfg.TrustedProxies, network)
	}
	return nil
}

// limits returns the limits that the flags set. With --dev all clients are on this machine, so the defaults per address do not apply.
func (l *limitFlags) limits(dev bool) delivery.Limits {
	cfg := l.cfg
	if dev {
		clearDefault(l.flags, "max-connections-per-address", &cfg.ConnectionsPerAddress)
		clearDefault(l.flags, "max-unauthenticated-per-address", &cfg.UnauthenticatedPerAddress)
		clearDefault(l.flags, "connect-rate", &cfg.ConnectRate)
		clearDefault(l.flags, "failed-auth-rate", &cfg.FailedAuthRate)
	}
	if files, known := fileLimit(); cfg.Connections == 0 && known {
		cfg.Connections = connectionsWithin(files)
	}
	return cfg
}

// clearDefault sets the limit to 0, no limit, unless the flag was set.
func clearDefault[T int | float64](flags *pflag.FlagSet, name string, limit *T) {
	if !flags.Changed(name) {
		*limit = 0
	}
}

// connectionsWithin returns the number of authenticated connections for a limit on open files. It reserves an eighth and 100 for NATS, its
// store and connections that are not authenticated yet.
func connectionsWithin(files uint64) int {
	files = min(files, 1<<30)
	return int(max(files-files/8, 101) - 100)
}

// socketsWithin returns the number of connections that may be open, authenticated or not: half of that reserve is for those that are not
// authenticated yet. It returns 0, no limit, if the limit on open files is not known.
func socketsWithin(files uint64, known bool) int {
	if !known {
		return 0
	}
	files = min(files, 1<<30)
	return connectionsWithin(files) + (int(files)-connectionsWithin(files))/2
}
