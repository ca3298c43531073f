package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/bench"
	"github.com/tidings-io/tidings/streams"
)

// benchOptions are the flags of `tidings bench`.
type benchOptions struct {
	local  bool
	sync   syncFlag
	url    string
	nats   natsFlags
	stream streamFlags
	pids   []int
	cfg    bench.Config
	json   bool
}

func newBench() *cobra.Command {
	o := &benchOptions{sync: syncFlag{interval: time.Second}}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure speed, CPU and memory, and whether anything is lost",
		Long:  "Measure a gateway that bench starts itself, or a running deployment. These are the scenarios, which --only can select:\n\n" + aboutScenarios(),
		Example: `  tidings bench --local                             two or three minutes on two cores
  tidings bench --local --only live,rate --runs 5   medians of five
  tidings bench --url ws://127.0.0.1:8080 --nats nats://127.0.0.1:4222 --pid $(pidof tidings)`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return badUsage(cmd, err)
			}
			return o.run(cmd)
		},
	}
	o.add(cmd.Flags())
	cmd.AddCommand(newStreamFloor(), newSocketFloor(), newAttackers())
	return cmd
}

func aboutScenarios() string {
	var b strings.Builder
	for _, s := range bench.Scenarios() {
		fmt.Fprintf(&b, "  %-8s  %s\n", s.Name, s.About)
	}
	b.WriteString(`
CPU and memory of the server are read from the operating system if it runs on this machine. Figures are printed with their floors:
what NATS alone and a minimal WebSocket server alone reach under the same load, measured in the same run in separate processes.
Every message is counted: if one is lost, repeated or out of order, the exit code is 1.

A deployment must accept the user's name as the token, as with --dev. Otherwise use --respond to answer authentication requests;
while bench runs, every token is then accepted. Bench creates new users and removes them and their notifications at the end.
Messages to --topic reach all users who read that topic.`)
	return b.String()
}

func (o *benchOptions) add(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.BoolVar(&o.local, "local", false, "start a gateway with embedded NATS in a separate process and measure it")
	flags.Var(&o.sync, "sync", "with --local: when NATS syncs to disk, see tidings gateway")
	flags.StringVar(&o.url, "url", "", "measure the gateway at this URL, such as ws://127.0.0.1:8080; with --nats")
	flags.BoolVar(&o.cfg.Respond, "respond", false, "with --url: answer authentication requests, with the token as the user's name")
	flags.StringVar(&o.cfg.AuthSubject, "auth-subject", auth.DefaultSubject, "with --respond: subject of authentication requests")
	flags.StringVar(&o.cfg.Topic, "topic", "all", "with --url: topic that every user may read")
	flags.IntSliceVar(&o.pids, "pid", nil, "with --url: processes of the gateway and of NATS on this machine, for their CPU and memory")
	flags.StringSliceVar(&o.cfg.Only, "only", nil, "scenarios to measure, separated by commas (default all)")
	flags.Float64Var(&o.cfg.Scale, "scale", 1, "factor for the numbers of users and messages: 0.1 for a quick look")
	flags.IntVar(&o.cfg.Runs, "runs", 1, "number of runs; figures are their medians")
	durationVar(flags, &o.cfg.Idle, "idle", 5*time.Second, "time that connections are idle before memory is measured; the target applies from 60s on")
	flags.BoolVar(&o.json, "json", false, "print one JSON object instead of the table")
	o.stream.addName(flags)
	o.nats.add(flags, "")
}

func (o *benchOptions) check() error {
	switch {
	case o.local == (o.url != ""):
		return errors.New("choose what to measure (use either --local, or --url and --nats of a running deployment)")
	case o.url != "" && o.nats.url == "":
		return errors.New("--url without --nats (use --nats with the URL of the deployment's NATS)")
	case o.local && (o.nats.url != "" || o.cfg.Respond || len(o.pids) > 0):
		return errors.New("--nats, --respond and --pid cannot be used with --local (they are for a running deployment, with --url)")
	case !o.local && o.sync.set:
		return errors.New("--sync cannot be used with --url (it is for --local; a running deployment has its own setting)")
	case !(o.cfg.Scale > 0):
		return fmt.Errorf("--scale %g: must be positive", o.cfg.Scale)
	case o.cfg.Runs < 1:
		return fmt.Errorf("--runs %d: must be positive", o.cfg.Runs)
	case o.cfg.Idle <= 0:
		return fmt.Errorf("--idle %s: must be positive", o.cfg.Idle)
	}
	return bench.CheckOnly(o.cfg.Only)
}

// run measures and prints the report.
func (o *benchOptions) run(cmd *cobra.Command) error {
	children, err := newChildren(o.sync)
	if err != nil {
		return err
	}
	defer children.remove()
	cfg := o.cfg
	cfg.Stream = o.stream.cfg.Name
	cfg.StreamFloor, cfg.SocketFloor, cfg.Attackers = children.streamFloor, children.socketFloor, children.attackers
	machine := machine{
		Cores: runtime.GOMAXPROCS(0), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), Version: version(), Measured: o.url,
	}
	if o.local {
		cfg.Start, cfg.Respond, cfg.Topic, cfg.AuthSubject, cfg.Stream = children.gateway, true, "all", auth.DefaultSubject, streams.DefaultName
		machine.Sync = o.sync.String()
	} else {
		cfg.Start = o.deployed
	}
	progress := newBenchProgress(cmd.ErrOrStderr())
	cfg.Progress = progress.show
	report, err := bench.Run(cmd.Context(), cfg)
	progress.end()
	if err != nil {
		return errors.Join(err, faultsOf(report))
	}
	if o.json {
		err = printBenchJSON(cmd.OutOrStdout(), machine, report)
	} else {
		err = printBenchTable(cmd.OutOrStdout(), machine, report)
	}
	return errors.Join(err, faultsOf(report))
}

// faultsOf returns an error if messages were lost, repeated or out of order.
func faultsOf(r bench.Report) error {
	if !r.Faults.Any() {
		return nil
	}
	return fmt.Errorf("messages were not delivered correctly, so the figures are invalid: %s\n  %s", r.Faults, strings.Join(r.Details, "\n  "))
}
