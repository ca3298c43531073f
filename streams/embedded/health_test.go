package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// TestFatalErrorFailsStart checks that Start returns an error that the server passes only to Fatalf.
func TestFatalErrorFailsStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hook := &logHook{}
	_, err := Start(t.Context(), Config{Dir: dir, Port: -1, Logger: zerolog.New(hook)})
	if err == nil || !strings.Contains(err.Error(), "Can't start JetStream: ") {
		t.Errorf("start: %v", err)
	}
	if !strings.Contains(hook.String(), `"level":"error","message":"Can't start JetStream`) {
		t.Errorf("log: %s", hook)
	}
	if err := os.Remove(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
}

// TestLostStreamFailsStart checks that Start fails if a stream cannot be recovered. The server itself would continue
// without it.
func TestLostStreamFailsStart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	makeDurables(t, makeStream(t, connect(t, s.ClientURL())), 1, jetstream.FileStorage)
	stop(t, s)

	stream := filepath.Join(dir, "jetstream", "$G", "streams", "S")
	if err := os.WriteFile(filepath.Join(stream, "meta.inf"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: dir, Port: -1})
	if err == nil || !strings.Contains(err.Error(), "'$G > S' could not be recovered (restore "+stream+" from a backup") {
		t.Errorf("start: %v", err)
	}
	// Without meta.inf, the directory is the remainder of a deleted stream and is ignored.
	if err := os.Remove(filepath.Join(stream, "meta.inf")); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
}

func TestFailed(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	if err := s.broken(); err != nil {
		t.Errorf("a new server: %v", err)
	}
	if err := s.server().ShutdownJetStream(); err != nil { // as the server does after a failed write
		t.Fatal(err)
	}
	select {
	case err := <-s.Failed():
		if !strings.Contains(err.Error(), "JetStream was disabled by the server") {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Failed did not report that JetStream is disabled")
	}
	stop(t, s)
}

func TestLogLevels(t *testing.T) {
	quiet, full := &logHook{}, &logHook{}
	stop(t, start(t, Config{Dir: t.TempDir(), Logger: zerolog.New(quiet).Level(zerolog.InfoLevel)}))
	if lines := strings.Count(quiet.String(), "\n"); lines != 1 {
		t.Errorf("want one line at info level for start and stop, got: %s", quiet)
	}
	stop(t, start(t, Config{Dir: t.TempDir(), Logger: zerolog.New(full)}))
	for _, want := range []string{`"level":"debug","message":"Starting nats-server"`, `"level":"trace"`} {
		if !strings.Contains(full.String(), want) {
			t.Errorf("no %s in the full log", want)
		}
	}
}
