package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/streams"
)

// doctorOptions holds the flags of doctor: those of the gateway to check, and --json.
type doctorOptions struct {
	gatewayOptions
	json bool
}

func newDoctor() *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything that a gateway needs, and say what to do",
		Long: `Check everything that a gateway with the same flags or environment needs: its ports, certificate and API keys, the disk, NATS, the
stream and the responder. It takes all flags of a gateway; those that change what it finds are listed here. To find missing
permissions, run it as the gateway's NATS user.

Doctor changes nothing. It asks the backend about an invented token, which may count there as a failed login. NATS logs the requests
that it refuses (unknown field "tidings_doctor"). For some µs doctor has the ports and the lock of the data directory.

It prints a line for each check: ok; warn, for what will cause trouble later; FAIL, for what does not work. The exit code is 1 if a
check fails.`,
		Example: `  tidings doctor                                    NATS on this machine
  tidings doctor --data /var/lib/tidings            embedded NATS, whether the gateway runs or not
  tidings doctor --nats nats://n1,nats://n2 --json | jq 'select(.verdict != "ok")'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return badUsage(cmd, err)
			}
			return o.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	o.add(cmd.Flags())
	return cmd
}

func (o *doctorOptions) add(flags *pflag.FlagSet) {
	flags.BoolVar(&o.json, "json", false, "print JSON, one check a line")
	o.gatewayOptions.add(flags)
	for _, name := range []string{ // they do not change what the checks find
		"origin", "token-cookie", "sync", "max-store", "tail", "commit-interval", "max-devices", "auth-within", "ping", "drain", "drain-delay",
		"max-connections-per-address", "max-connections-per-user", "max-unauthenticated", "max-unauthenticated-per-address", "connect-rate",
		"failed-auth-rate", "send-rate", "publish-rate", "trusted-proxy", "log-level", "log-format",
	} {
		flags.Lookup(name).Hidden = true
	}
}

// check rejects what a gateway rejects, but without --nats, --data and --dev it uses the NATS server on this machine.
func (o *doctorOptions) check() error {
	if o.nats.url == "" && o.data == "" && !o.dev {
		o.nats.url = nats.DefaultURL
	}
	_, err := o.log.logger(io.Discard)
	return errors.Join(o.gatewayOptions.check(), err)
}

// finding is one result of a check: the verdict, what was found, and what to do about it.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"`
	Found   string `json:"found"`
	Do      string `json:"do,omitempty"`
}

// Verdicts of a finding.
const (
	isGood = "ok"
	isPoor = "warn"
	isBad  = "FAIL"
)

func good(format string, args ...any) []finding {
	return []finding{{Verdict: isGood, Found: fmt.Sprintf(format, args...)}}
}

func poor(do, format string, args ...any) []finding {
	return []finding{{Verdict: isPoor, Found: fmt.Sprintf(format, args...), Do: do}}
}

func bad(do, format string, args ...any) []finding {
	return []finding{{Verdict: isBad, Found: fmt.Sprintf(format, args...), Do: do}}
}

// failed turns an error into a finding with the verdict FAIL. Our errors end in a hint in parentheses, which says what to do.
func failed(err error) []finding {
	text := err.Error()
	if at := strings.LastIndex(text, " ("); at > 0 && strings.HasSuffix(text, ")") {
		return bad(text[at+2:len(text)-1], "%s", text[:at])
	}
	return bad("", "%s", text)
}

// doctor runs the checks once, and keeps what later checks need from earlier ones.
type doctor struct {
	*doctorOptions
	nc      *nats.Conn             // nil if not connected
	mute    bool                   // JetStream does not reply
	serving bool                   // a gateway listens on the port for clients
	account *jetstream.AccountInfo // nil if not known
	seen    streams.Inspection     // Info is nil if there is no stream, or it does not reply
	denied  map[string]bool        // subjects to which NATS does not let us publish or subscribe
}

// checks returns all checks in the order in which they depend on each other. A check that cannot run returns no finding.
func (d *doctor) checks() []struct {
	name string
	look func(ctx context.Context) []finding
} {
	return []struct {
		name string
		look func(ctx context.Context) []finding
	}{
		{"port", d.port},
		{"admin", d.admin},
		{"certificate", d.certificate},
		{"keys", d.keys},
		{"files", d.files},
		{"disk", d.disk},
		{"server", d.server},
		{"version", d.version},
		{"payload", d.payload},
		{"rights", d.rights},
		{"jetstream", d.jetstream},
		{"stream", d.streamSettings},
		{"space", d.space},
		{"consumers", d.consumers},
		{"replicas", d.replicas},
		{"clock", d.clock},
		{"responder", d.responder},
	}
}

func (o *doctorOptions) run(ctx context.Context, out io.Writer) error {
	d := &doctor{doctorOptions: o, denied: map[string]bool{}}
	defer func() {
		if d.nc != nil {
			d.nc.Close()
		}
	}()
	show := o.show(out)
	made, broken, left := 0, 0, ""
	for _, check := range d.checks() {
		findings := check.look(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(findings) == 0 {
			left += " " + check.name
			continue
		}
		made++
		for _, f := range findings {
			f.Check = check.name
			if err := show(f); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(findings, func(f finding) bool { return f.Verdict == isBad }) {
			broken++
		}
	}
	switch {
	case broken > 0 && left != "":
		return fmt.Errorf("%d of %d checks failed; not checked because of that:%s", broken, made, left)
	case broken > 0:
		return fmt.Errorf("%d of %d checks failed", broken, made)
	}
	return nil
}

func (o *doctorOptions) show(out io.Writer) func(finding) error {
	if o.json {
		enc := json.NewEncoder(out)
		return func(f finding) error { return enc.Encode(f) }
	}
	return func(f finding) error {
		line := fmt.Sprintf("%-4s  %-11s  %s", f.Verdict, f.Check, f.Found)
		if f.Do != "" {
			line += " (" + f.Do + ")"
		}
		_, err := fmt.Fprintln(out, line)
		return err
	}
}

// embedded returns the address of the embedded NATS server of a gateway with these flags.
func (o *doctorOptions) embedded() string {
	return net.JoinHostPort(o.natsHost, strconv.Itoa(o.natsPort))
}

// grouped formats a number with separators, such as 12,345.
func grouped[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// sized formats a number of bytes with a unit, such as 1.5 GiB.
func sized[N int | int64 | uint64](n N) string {
	for _, unit := range []struct {
		bytes float64
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if float64(n) >= unit.bytes {
			return strconv.FormatFloat(float64(n)/unit.bytes, 'f', 1, 64) + " " + unit.name
		}
	}
	return fmt.Sprint(n) + " bytes"
}
