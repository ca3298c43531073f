// Package bench measures a running Tidings from outside: its speed, its use of CPU and memory, and whether messages are
// lost.
//
// A scenario connects a fleet of lightweight clients over WebSocket, publishes over NATS, and reads the server's CPU
// and memory use from the operating system. Floors are measured in the same run for comparison: the minimum cost of the
// parts that Tidings is built on, in separate processes. The caller provides the functions that start servers and
// floors.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Config sets what to measure. Start, StreamFloor and SocketFloor are required.
type Config struct {
	Start       func(context.Context, Needs) (*Server, error) // starts a Tidings; after ErrCannot the scenario is skipped
	StreamFloor func(context.Context) (*Server, error)        // starts a process with a NATS server and ServeStream
	SocketFloor func(context.Context) (*Server, error)        // starts a process with ServeSockets
	// Attackers starts ServeAttackers with n connections to the server at the URL. nil: the scenario "hostile" is
	// skipped.
	Attackers func(ctx context.Context, url string, n int) (*Server, error)

	Stream      string        // name of the stream; default "NOTIFICATIONS"
	Respond     bool          // answer authentication requests, with the token as the user's name
	AuthSubject string        // subject of authentication requests; default auth.DefaultSubject
	Topic       string        // topic that every user's token grants; default "all"
	Only        []string      // names of scenarios; default: all that are not marked OnlyIfNamed
	Scale       float64       // factor for the numbers of users and messages; default 1
	Runs        int           // number of runs; figures are medians of them; default 1
	Idle        time.Duration // how long connections are idle before memory is measured; default 5 s

	Progress func(Progress) // called for each step; may be nil
}

// Needs are the requirements of a scenario for its server. Zero fields mean the server's default.
type Needs struct {
	Tail           int64 // size of the tail in MiB
	MaxMsgsPerUser int64
	Attacked       bool // the scenario attacks the server
}

// Server is a running server.
type Server struct {
	URL     string                                 // such as ws://127.0.0.1:8080
	Connect func() (*nats.Conn, error)             // connects to its NATS server
	Admin   string                                 // URL of the metrics and profiles of a Tidings; empty: unknown
	PIDs    []int                                  // its processes, if they run on this machine
	Shared  bool                                   // others use it too, so users and messages are removed at the end
	Beside  func(context.Context) (*Server, error) // starts another gateway with the same NATS server; nil: not possible
	Stop    func()
}

// ErrCannot is wrapped by the error of Config.Start if no server can meet the needs of a scenario, which is then
// skipped.
var ErrCannot = errors.New("not measured")

// Progress describes the current step of a run.
type Progress struct {
	Done, Total int // scenarios
	Scenario    string
	Step        string
}

const (
	scenarioTimeout = 10 * time.Minute
	forgetTimeout   = 2 * time.Minute        // for removing users and messages at the end
	quiet           = 300 * time.Millisecond // pause before each measurement, at a scale of 0.1 and above
)

// bench is one call of Run.
type bench struct {
	cfg      Config
	report   *Report
	progress Progress
}

// Run runs the scenarios and returns their figures. It returns an error if it could not measure. Lost, repeated and
// reordered messages are no error of Run; they are counted in the report.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg.Topic = cmp.Or(cfg.Topic, "all")
	cfg.Scale = cmp.Or(cfg.Scale, 1)
	cfg.Runs = cmp.Or(cfg.Runs, 1)
	cfg.Idle = cmp.Or(cfg.Idle, 5*time.Second)
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	began := time.Now()
	report := Report{Scale: cfg.Scale, Runs: cfg.Runs}
	if err := CheckOnly(cfg.Only); err != nil {
		return report, err
	}
	chosen := slices.DeleteFunc(Scenarios(), func(s Scenario) bool {
		return !slices.Contains(cfg.Only, s.Name) && (len(cfg.Only) > 0 || s.OnlyIfNamed)
	})
	b := &bench{cfg: cfg, report: &report, progress: Progress{Total: cfg.Runs * len(chosen)}}
	for _, s := range chosen {
		if err := checkFileLimit(b.scaled(s.Connections)); err != nil {
			return report, err
		}
	}
	for range cfg.Runs {
		for _, s := range chosen {
			b.progress.Scenario = s.Name
			if err := b.measure(ctx, s); errors.Is(err, ErrCannot) {
				b.note("%v", err)
			} else if err != nil {
				return report, fmt.Errorf("%s: %w", s.Name, err)
			}
			b.progress.Done++
		}
	}
	b.progress.Scenario = ""
	b.step("done")
	report.finish(time.Since(began))
	return report, nil
}

func (b *bench) measure(ctx context.Context, s Scenario) error {
	ctx, cancel := context.WithTimeoutCause(ctx, scenarioTimeout, fmt.Errorf("not done within %s (try a smaller --scale)", scenarioTimeout))
	defer cancel()
	err := s.run(ctx, b)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// CheckOnly returns an error if one of the names is not a scenario.
func CheckOnly(names []string) error {
	var all []string
	for _, s := range Scenarios() {
		all = append(all, s.Name)
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			return fmt.Errorf("unknown scenario %q (there are %s)", name, strings.Join(all, ", "))
		}
	}
	return nil
}

// scaled returns n multiplied by the scale, but at least 1.
func (b *bench) scaled(n int) int { return max(1, int(math.Round(float64(n)*b.cfg.Scale))) }

// comma returns n with commas between thousands.
func comma(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func (b *bench) step(format string, args ...any) {
	b.progress.Step = fmt.Sprintf(format, args...)
	b.cfg.Progress(b.progress)
}

// note adds a note about the current scenario to the report, unless it is there already.
func (b *bench) note(format string, args ...any) {
	b.remark(b.progress.Scenario + ": " + fmt.Sprintf(format, args...))
}

func (b *bench) remark(text string) {
	if !slices.Contains(b.report.Notes, text) {
		b.report.Notes = append(b.report.Notes, text)
	}
}

// calm pauses before a measurement, so that earlier work does not disturb it.
func (b *bench) calm(ctx context.Context) error {
	return pause(ctx, time.Duration(float64(quiet)*min(1, 10*b.cfg.Scale)))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
