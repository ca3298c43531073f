package streamstest

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestProcessKilled(t *testing.T) {
	p := RunProcess(t)
	js := p.JetStream(t)
	makeStream(t, js)
	publish(t, js, 20)
	p.Kill()
	p.Kill() // no error
	if err := holds(js, 20)(); err == nil {
		t.Error("a killed server still answers")
	}
	p.Restart()
	Eventually(t, 10*time.Second, holds(js, 20))
	p.Stop()
	p.Restart()
	Eventually(t, 10*time.Second, holds(js, 20))
}

func TestProcessPaused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGSTOP")
	}
	p := RunProcess(t)
	nc := p.Connect(t)
	p.Pause()
	p.Pause() // no error
	if err := nc.FlushTimeout(100 * time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("a paused server: %v", err)
	}
	p.Resume()
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Errorf("a resumed server: %v", err)
	}
	p.Pause() // the end of the test kills the paused process
}
