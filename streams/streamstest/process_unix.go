//go:build unix

package streamstest

import (
	"errors"
	"syscall"
)

// Pause stops the process with SIGSTOP, so that its connections stay open but it does not answer. Pause returns when
// the process has stopped.
func (p *Process) Pause() {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused {
		return
	}
	p.signal(syscall.SIGSTOP)
	p.paused = true
	// Wait until the signal has taken effect. The wait also returns if the process ends for another reason; end handles
	// that.
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			p.tb.Fatalf("server process did not stop after SIGSTOP: %v", err)
		}
		return
	}
}

// Resume continues the process with SIGCONT.
func (p *Process) Resume() {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal(syscall.SIGCONT)
	p.paused = false
}

// signal is called with mu held.
func (p *Process) signal(sig syscall.Signal) {
	p.tb.Helper()
	if p.cmd == nil {
		p.tb.Fatalf("cannot send %s: the server process does not run", sig)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Fatalf("%s: %v", sig, err)
	}
}
