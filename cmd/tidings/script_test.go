package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// secrets searches the output of processes for secrets.
var secrets streamstest.Secrets

// TestMain makes the test binary serve as `tidings`, and as a nats-server to fault tests.
func TestMain(m *testing.M) {
	streamstest.Child()
	defaultSignals()
	testscript.Main(searched{m}, map[string]func(){"tidings": main})
}

// defaultSignals lets child processes start with the default actions of signals that this process was started to ignore, as nohup and
// background jobs of a shell are. What is ignored is inherited, what is caught is not. Windows has no such thing.
func defaultSignals() {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// searched runs the tests and fails if a secret was written.
type searched struct{ *testing.M }

func (s searched) Run() int {
	code := s.M.Run()
	if err := secrets.Check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// patience is how long a script waits for anything. It is only ever waited for to the end where a test fails.
const patience = 30 * time.Second

// TestScripts runs the command-line stories. Beside the commands of package testscript they have
//
//	exits CODE COMMAND…       run it to its end, which must be with this exit code
//	start NAME [VAR=VALUE…] COMMAND…
//	                          run it in the background with the script's first environment and these variables, its output
//	                          in NAME.out and NAME.err
//	signal NAME INT|TERM|KILL
//	end NAME CODE|killed      wait for its end, which must be so; stdout and stderr are then all that it wrote
//	waitfor FILE REGEXP       until the file has a match
//	until REGEXP COMMAND…     run it again and again until its standard output has a match
//	freeport VAR…             set variables to ports that nobody listens on
//	quoted VAR TEXT           set a variable to what stands between the quotes of a Go string
//	fill FILE SIZE            make a file of that many bytes
//	fetch URL                 HTTP GET; stdout is the status, and then the body
//	paste PAGE SECTION FILE   run the curl lines of that section of a document in a shell, with the key from the hints in FILE, against
//	                          the gateway at $HTTP
//
// What was started is killed at the end of its script. $TESTDATA is the directory of that name.
func TestScripts(t *testing.T) {
	runScripts(t, testscript.Params{Dir: filepath.Join("..", "..", "testdata", "scripts")})
}

// runScripts runs scripts with those commands, and with these variables set.
func runScripts(t *testing.T, scripts testscript.Params, variables ...string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stories send signals")
	}
	testdata, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	scripts.RequireUniqueNames = true // what hangs is asked for its goroutines shortly before the tests' own time is over
	scripts.Setup = func(env *testscript.Env) error {
		// The race detector sleeps for a second before each exit otherwise.
		env.Setenv("GORACE", "atexit_sleep_ms=10 "+env.Getenv("GORACE"))
		env.Setenv("TESTDATA", testdata)
		env.Setenv("TIDINGS_ADMIN_LISTEN", "")   // stories run side by side
		env.Setenv("TIDINGS_LOG_LEVEL", "trace") // and TestMain looks for secrets in it
		for _, variable := range variables {
			name, value, _ := strings.Cut(variable, "=")
			env.Setenv(name, value)
		}
		env.Values[processesKey{}] = &processes{environment: slices.Clone(env.Vars), running: map[string]*process{}}
		return nil
	}
	scripts.Cmds = map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"exits":   plain(2, -1, cmdExits),
		"start":   plain(2, -1, cmdStart),
		"signal":  plain(2, 2, cmdSignal),
		"end":     plain(2, 2, cmdEnd),
		"waitfor": plain(2, 2, cmdWaitFor),
		"until":   plain(2, -1, cmdUntil),
		"freeport": plain(1, -1, func(ts *testscript.TestScript, names []string) {
			for _, name := range names {
				ts.Setenv(name, strconv.Itoa(streamstest.FreePort(t)))
			}
		}),
		"quoted": plain(2, 2, cmdQuoted),
		"fill":   plain(2, 2, cmdFill),
		"fetch":  plain(1, 1, cmdFetch),
		"paste":  plain(3, -1, cmdPaste),
	}
	testscript.Run(t, scripts)
}

// plain is a command without a negated form, with so many arguments; most -1 is any number.
func plain(least, most int, run func(ts *testscript.TestScript, args []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		switch {
		case neg:
			ts.Fatalf("there is no negated form of this command")
		case len(args) < least || most >= 0 && len(args) > most:
			ts.Fatalf("%d arguments", len(args))
		}
		run(ts, args)
	}
}

// eventually polls until cond is nil, and fails the script with its last error.
func eventually(ts *testscript.TestScript, cond func() error) {
	deadline := time.Now().Add(patience)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: %v", patience, err)
		}
		time.Sleep(pause)
	}
}

func compile(ts *testscript.TestScript, pattern string) *regexp.Regexp {
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	return re
}

func cmdExits(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdWaitFor(ts *testscript.TestScript, args []string) {
	file, re := ts.MkAbs(args[0]), compile(ts, args[1])
	eventually(ts, func() error {
		text, err := os.ReadFile(file)
		if err == nil && !re.Match(text) {
			err = fmt.Errorf("%s has no match for %#q:\n%s", args[0], args[1], text)
		}
		return err
	})
}

func cmdUntil(ts *testscript.TestScript, args []string) {
	re := compile(ts, args[0])
	eventually(ts, func() error {
		if err := ts.Exec(args[1], args[2:]...); err != nil {
			return err
		}
		if text := ts.ReadFile("stdout"); !re.MatchString(text) {
			return fmt.Errorf("no match for %#q in:\n%s", args[0], text)
		}
		return nil
	})
}

func cmdQuoted(ts *testscript.TestScript, args []string) {
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	ts.Setenv(args[0], text)
}

func cmdFill(ts *testscript.TestScript, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 32)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), make([]byte, size), 0o600))
}

func cmdFetch(ts *testscript.TestScript, args []string) {
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	response, err := client.Get(args[0])
	ts.Check(err)
	defer response.Body.Close()
	fmt.Fprintln(ts.Stdout(), response.Status)
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
}
