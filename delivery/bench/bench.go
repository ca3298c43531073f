// Package bench measures a running Tidings from outside: how fast, with how much of the machine, and whether anything was lost on
// the way.
//
// A scenario connects a fleet of light clients over WebSocket, publishes over NATS, and reads the server's CPU and memory from the
// operating system. Beside it stand floors, measured in the same run: the least that the parts which Tidings is made of can do,
// in processes of their own. What starts servers and floors is the caller's.
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

// Config says what to measure. Zero fields mean the default where one is given.
type Config struct {
	Start       func(context.Context, Needs) (*Server, error) // a Tidings; ErrCannot skips the scenario
	StreamFloor func(context.Context) (*Server, error)        // a NATS server beside a ServeStream
	SocketFloor func(context.Context) (*Server, error)        // a ServeSockets
	// Attackers starts a ServeAttackers of so many connections to the server at this URL.
	Attackers func(ctx context.Context, url string, n int) (*Server, error)

	Stream      string        // name of the stream: "NOTIFICATIONS"
	Respond     bool          // answer authentication requests: a token is its user's name
	AuthSubject string        // to answer on: auth.DefaultSubject
	Topic       string        // that every user's token grants: "all"
	Only        []string      // names of scenarios: all that need not be named
	Scale       float64       // of users and messages: 1
	Runs        int           // of which figures are medians: 1
	Idle        time.Duration // before memory is looked at: 5 s

	Progress func(Progress) // is told of each step
}

// Needs are what a scenario asks of a server that is its own. Zero fields mean the server's default.
type Needs struct {
	Tail           int64 // MiB
	MaxMsgsPerUser int64
	Attacked       bool
}

// Server is one that runs.
type Server struct {
	URL     string // such as ws://127.0.0.1:8080
	Connect func() (*nats.Conn, error)
	Admin   string                                 // URL of its metrics and profiles, of a Tidings; empty: not known
	PIDs    []int                                  // of its processes, where they are on this machine
	Shared  bool                                   // others use it too: what is left in it goes at the end
	Beside  func(context.Context) (*Server, error) // starts another gateway at the same NATS; nil: cannot be
	Stop    func()
}

// ErrCannot is wrapped where a server cannot be what a scenario needs. The scenario is skipped.
var ErrCannot = errors.New("not measured")

// Progress is where a run is.
type Progress struct {
	Done, Total int // scenarios
	Scenario    string
	Step        string
}

const (
	atMost    = 10 * time.Minute       // for a scenario
	forgetFor = 2 * time.Minute        // to remove what is left
	quiet     = 300 * time.Millisecond // before something is measured, at a tenth of the scale and above
)

// bench is one call of Run.
type bench struct {
	cfg      Config
	report   *Report
	progress Progress
}

// Run measures. An error says why it could not; faults that it found are in the report.
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
		return !slices.Contains(cfg.Only, s.Name) && (len(cfg.Only) > 0 || s.Asked)
	})
	b := &bench{cfg: cfg, report: &report, progress: Progress{Total: cfg.Runs * len(chosen)}}
	for _, s := range chosen {
		if err := enoughFiles(b.scaled(s.Connections)); err != nil {
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
	report.settle(time.Since(began))
	return report, nil
}

func (b *bench) measure(ctx context.Context, s Scenario) error {
	ctx, cancel := context.WithTimeoutCause(ctx, atMost, fmt.Errorf("not done within %s (try a smaller --scale)", atMost))
	defer cancel()
	err := s.run(ctx, b)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// CheckOnly says which of the names is no scenario's.
func CheckOnly(names []string) error {
	var all []string
	for _, s := range Scenarios() {
		all = append(all, s.Name)
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			return fmt.Errorf("there is no scenario %q, but %s", name, strings.Join(all, ", "))
		}
	}
	return nil
}

// scaled is n as the scale wants it.
func (b *bench) scaled(n int) int { return max(1, int(math.Round(float64(n)*b.cfg.Scale))) }

// comma writes n with commas between thousands.
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

// note adds a sentence about a scenario to the report, once.
func (b *bench) note(format string, args ...any) {
	b.remark(b.progress.Scenario + ": " + fmt.Sprintf(format, args...))
}

func (b *bench) remark(text string) {
	if !slices.Contains(b.report.Notes, text) {
		b.report.Notes = append(b.report.Notes, text)
	}
}

// calm waits until what came before has settled.
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
