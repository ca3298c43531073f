package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is an error in how a command was called. The process exits with exitUsage.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tidings",
		Short: "Durable notification delivery on NATS JetStream",
		Long: `Tidings delivers notifications that must not get lost: stored in a NATS JetStream stream, delivered to a user's
connections at once, and replayed on reconnect.

Every flag can be set in the environment too: --max-age as TIDINGS_MAX_AGE, and so on. A flag that can be repeated takes
several values there, separated by commas. A flag on the command line wins. Durations are written 30s, 15m, 24h or 30d.

Try it:  tidings gateway --dev`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd); err != nil {
				return badUsage(cmd, err)
			}
			if err := checkNATSFlags(cmd.Flags()); err != nil {
				return badUsage(cmd, err)
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		DisableSuggestions:    true, // knownCommand and flagError make suggestions
		Version:               fullVersion(),
	}
	root.SetVersionTemplate("tidings {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp())
	root.SetUsageFunc(printUsage)
	root.AddCommand(newGateway(), newPublish(), newListen(), newResponder(), newUsers(), newDisconnect(), newEpoch(), newDoctor(), newBench(), newVersion())
	root.InitDefaultCompletionCmd()
	everyCommand(root, refuseUnknown) // cobra would print the help text and exit with 0
	checkArgs(root)
	return root
}

func badUsage(cmd *cobra.Command, err error) error {
	return &usageError{command: cmd.CommandPath(), err: err}
}

// checkArgs turns errors about arguments, of cmd and its subcommands, into usage errors.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return badUsage(cmd, err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}

// fromEnvironment sets the flags that are not on the command line from their environment variables.
func fromEnvironment(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := environmentName(f.Name)
		value, set := os.LookupEnv(name)
		if !set || f.Changed || f.Name == "help" || f.Name == "version" {
			return
		}
		values := []string{value}
		if _, repeatable := f.Value.(pflag.SliceValue); repeatable {
			if value == "" { // an empty variable is an empty list
				return
			}
			values = strings.Split(value, ",")
		}
		for _, value := range values {
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				if strings.HasPrefix(value, "tcp://") {
					err = fmt.Errorf("%w (Kubernetes sets this variable because of a Service of that name: set enableServiceLinks: false in the pod)", err)
				}
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// counted returns a number with its noun, such as "1 gateway" or "2 gateways".
func counted[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// variablePrefix is the prefix of the environment variables of all flags.
const variablePrefix = "TIDINGS_"

func environmentName(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// logFlags are the flags for the log of a long-running command.
type logFlags struct {
	level, format string
}

func (l *logFlags) add(flags *pflag.FlagSet) {
	heading(flags, "Flags")
	flags.StringVar(&l.level, "log-level", "info", "minimum level to log: trace, debug, info, warn, error")
	flags.StringVar(&l.format, "log-format", "auto", "console, json, or auto: console on a terminal")
	heading(flags, "Logging")
}

func (l *logFlags) logger(w io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(l.level)
	if err != nil || level == zerolog.NoLevel {
		return zerolog.Logger{}, fmt.Errorf("--log-level %q: use trace, debug, info, warn or error", l.level)
	}
	console := l.format == "console"
	switch l.format {
	case "auto":
		file, isFile := w.(*os.File)
		console = isFile && isatty.IsTerminal(file.Fd())
	case "console", "json":
	default:
		return zerolog.Logger{}, fmt.Errorf("--log-format %q: use auto, console or json", l.format)
	}
	if console {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger(), nil
}
