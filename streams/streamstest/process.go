package streamstest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// childEnv is the environment variable with the config of a child process as JSON. A process in which it is set is a
// child.
const childEnv = "TIDINGS_TEST_SERVER"

const readyLine = "streamstest: ready"

// A Process is a nats-server in a separate process, which runs this test binary.
type Process struct {
	endpoint
	tb testing.TB

	mu     sync.Mutex
	cmd    *exec.Cmd // nil while it does not run
	paused bool
	stdin  io.WriteCloser // the child stops when this is closed, also by the end of this process
	log    *bytes.Buffer  // of the newest child, which writes to it until cmd.Wait has returned
}

// RunProcess starts a nats-server in a child process, with the options of Run. TestMain must call Main.
func RunProcess(tb testing.TB, opts ...Option) *Process {
	tb.Helper()
	p := newProcess(tb, newConfig(tb, opts))
	p.Restart()
	return p
}

func newProcess(tb testing.TB, cfg config) *Process {
	p := &Process{endpoint: endpoint{cfg}, tb: tb}
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("log of the server process at %s:\n%s", p.URL(), p.log)
		}
	})
	return p
}

// Kill ends the process with SIGKILL. It does nothing if the process does not run.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(0)
}

// Stop shuts the server down as SIGTERM would. It kills the process if that takes longer than 10 s.
func (p *Process) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(10 * time.Second)
}

// end ends the process: immediately if grace is 0, otherwise by a shutdown that may take that long. mu must be held.
func (p *Process) end(grace time.Duration) {
	cmd := p.cmd
	if cmd == nil {
		return
	}
	p.cmd, p.paused = nil, false
	if grace == 0 {
		_ = cmd.Process.Kill() // before closing its standard input, which would shut it down in order
	}
	p.stdin.Close()
	timer := time.AfterFunc(grace, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // returns an error if the process was killed, which is expected
}

// Restart starts the process again with the same port and directory. It stops the process first if it runs.
func (p *Process) Restart() {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(10 * time.Second)
	if err := p.start(); err != nil {
		p.tb.Fatalf("start nats-server process: %v\n%s", err, p.log)
	}
}

// startIfDown starts the process unless it runs.
func (p *Process) startIfDown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	return p.start()
}

func (p *Process) start() error {
	spec, err := json.Marshal(p.cfg)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// -test.run keeps the child from running all tests, and starting more children, if TestMain does not call Main.
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	cmd.SysProcAttr = dieWithParent()
	p.log = &bytes.Buffer{}
	cmd.Stderr = p.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.stdin = cmd, stdin

	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) == readyLine {
		return nil
	}
	p.end(0)
	if line != "" {
		return fmt.Errorf("unexpected output of the child: %q (TestMain must call streamstest.Main)", line)
	}
	return fmt.Errorf("the child did not become ready: %w", err)
}

// serve runs the server in the child process until standard input ends, and returns the exit code. It logs to stderr.
func serve(spec string) int {
	var cfg config
	if err := json.Unmarshal([]byte(spec), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	srv, err := launch(cfg, &serverLog{out: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(readyLine)
	_, _ = io.Copy(io.Discard, os.Stdin)
	srv.Shutdown()
	srv.WaitForShutdown()
	return 0
}
