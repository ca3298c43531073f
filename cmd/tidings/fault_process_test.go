//go:build linux

package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// gateway is a `tidings gateway` in a separate process, which may stop and be started again at the same address.
type gateway struct {
	t      *testing.T
	listen string
	args   []string
	log    string // file

	variables []string

	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has ended
	served int64         // length of the log when the process was started
}

// runGateway starts a gateway with these flags and waits until it serves.
func runGateway(t *testing.T, args ...string) *gateway {
	t.Helper()
	g := launchGateway(t, args...)
	g.serves()
	return g
}

// launchGateway starts a gateway with these flags, and variables before them, and waits for nothing.
func launchGateway(t *testing.T, args ...string) *gateway {
	t.Helper()
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(streamstest.FreePort(t)))
	var variables []string
	for len(args) > 0 && (strings.HasPrefix(args[0], "TIDINGS_") || strings.HasPrefix(args[0], "OTEL_")) {
		variables, args = append(variables, args[0]), args[1:]
	}
	g := &gateway{
		t: t, listen: listen, log: filepath.Join(t.TempDir(), "gateway.log"), variables: variables,
		args: slices.Concat([]string{"gateway", "--listen", listen, "--admin-listen", "127.0.0.1:0"}, noLimitsPerAddress(), args),
	}
	t.Cleanup(func() {
		g.kill()
		text, _ := os.ReadFile(g.log)
		secrets.Search("gateway's log", text)
		if t.Failed() {
			t.Logf("gateway %s, the end of its log:\n%s", g.listen, text[max(0, len(text)-20_000):])
		}
	})
	g.launch()
	return g
}

func (g *gateway) url() string { return "ws://" + g.listen }

func (g *gateway) pid() int { return g.cmd.Process.Pid }

// start starts the process, as often as it ends by itself, as a service manager would, and waits until it serves.
func (g *gateway) start() {
	g.t.Helper()
	g.launch()
	g.serves()
}

// serves waits until the gateway serves.
func (g *gateway) serves() {
	g.t.Helper()
	streamstest.Eventually(g.t, longer, func() error {
		select {
		case <-g.done:
			g.t.Logf("gateway %s did not start: %s", g.listen, g.cmd.ProcessState)
			g.launch()
		default:
		}
		if !g.logged(`"message":"serving"`) {
			return errors.New("it does not serve yet")
		}
		return nil
	})
}

// launch starts the process and waits for nothing.
func (g *gateway) launch() {
	g.t.Helper()
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		g.t.Fatal(err)
	}
	g.served = info.Size()
	g.cmd = exec.Command("tidings", g.args...)
	// The race detector sleeps for a second before each exit otherwise.
	g.cmd.Env = append(os.Environ(), "TIDINGS_LOG_LEVEL=trace", "GORACE=atexit_sleep_ms=10 "+os.Getenv("GORACE"))
	g.cmd.Env = append(g.cmd.Env, g.variables...)
	g.cmd.Stdout, g.cmd.Stderr = log, log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	cmd, done := g.cmd, make(chan struct{})
	g.done = done
	go func() {
		_ = cmd.Wait() // ProcessState says it all
		close(done)
	}()
}

// kill ends the process with SIGKILL.
func (g *gateway) kill() {
	if g.cmd != nil {
		_ = g.cmd.Process.Kill()
		<-g.done
	}
}

// ends waits until the process has exited by itself, and returns the exit code.
func (g *gateway) ends() (code int) {
	g.t.Helper()
	select {
	case <-g.done:
	case <-time.After(longer):
		g.signal(syscall.SIGQUIT) // for its goroutines
		<-g.done
		g.t.Fatalf("gateway %s still runs", g.listen)
	}
	return g.cmd.ProcessState.ExitCode()
}

// logged reports whether the process has written the text since it was started.
func (g *gateway) logged(text string) bool { return g.said(text) > 0 }

// said returns how often the process has written the text since it was started.
func (g *gateway) said(text string) int {
	g.t.Helper()
	log, err := os.ReadFile(g.log)
	if err != nil {
		g.t.Fatal(err)
	}
	return bytes.Count(log[g.served:], []byte(text))
}

func (g *gateway) signal(s syscall.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Fatalf("gateway %s: %v", g.listen, err)
	}
}

// terminate sends SIGTERM and returns the exit code once the process has ended, which it must within bound.
func (g *gateway) terminate(bound time.Duration) (code int) {
	g.t.Helper()
	began := time.Now()
	g.signal(syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(bound):
		g.signal(syscall.SIGQUIT) // for its goroutines
		<-g.done
		g.t.Fatalf("gateway %s still runs %s after SIGTERM", g.listen, bound)
	}
	g.t.Logf("the gateway ended with %d, %s after SIGTERM", g.cmd.ProcessState.ExitCode(), time.Since(began).Round(time.Millisecond))
	return g.cmd.ProcessState.ExitCode()
}
