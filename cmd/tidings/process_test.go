package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// process is a command that a script has started in the background.
type process struct {
	cmd      *exec.Cmd
	out, err string        // files
	done     chan struct{} // closed when it has ended
}

// processes holds the processes of one script.
type processes struct {
	environment []string
	running     map[string]*process // by name, also those that have ended unexpectedly
}

type processesKey struct{}

func of(ts *testscript.TestScript) *processes { return ts.Value(processesKey{}).(*processes) }

func started(ts *testscript.TestScript, name string) *process {
	p := of(ts).running[name]
	if p == nil {
		ts.Fatalf("%s was not started", name)
	}
	return p
}

func cmdStart(ts *testscript.TestScript, args []string) {
	all, name, command := of(ts), args[0], args[1:]
	if all.running[name] != nil {
		ts.Fatalf("%s runs already", name)
	}
	environment := slices.Clone(all.environment)
	for len(command) > 1 && strings.Contains(command[0], "=") {
		environment, command = append(environment, command[0]), command[1:]
	}
	p := &process{
		cmd: exec.Command(command[0], command[1:]...),
		out: ts.MkAbs(name + ".out"), err: ts.MkAbs(name + ".err"),
		done: make(chan struct{}),
	}
	// Files, rather than pipes that somebody would have to read.
	out, err := os.Create(p.out)
	ts.Check(err)
	defer out.Close()
	status, err := os.Create(p.err)
	ts.Check(err)
	defer status.Close()
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = ts.MkAbs("."), environment, out, status
	ts.Check(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // ProcessState says it all
		close(p.done)
	}()
	all.running[name] = p
	ts.Defer(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		secrets.Search(name, []byte(read(p.out)+read(p.err)))
		ts.Logf("%s: %s\n[%s.out]\n%s[%s.err]\n%s", name, p.ended(), name, read(p.out), name, read(p.err))
	})
}

func cmdSignal(ts *testscript.TestScript, args []string) {
	signal, ok := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "KILL": os.Kill}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	ts.Check(started(ts, args[0]).cmd.Process.Signal(signal))
}

func cmdEnd(ts *testscript.TestScript, args []string) {
	p := started(ts, args[0])
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case <-p.done:
	case <-deadline.C:
		ts.Fatalf("%s still runs after %s", args[0], patience)
	}
	delete(of(ts).running, args[0])
	fmt.Fprint(ts.Stdout(), read(p.out))
	fmt.Fprint(ts.Stderr(), read(p.err))
	if got := p.ended(); got != args[1] {
		ts.Fatalf("%s ended with %s, want %s", args[0], got, args[1])
	}
}

// ended returns the exit code of a process that has exited, or "killed".
func (p *process) ended() string {
	if code := p.cmd.ProcessState.ExitCode(); code >= 0 {
		return fmt.Sprint(code)
	}
	return "killed"
}

func read(file string) string {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error() + "\n"
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return string(text)
}
