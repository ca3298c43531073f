package embedded

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// startWhenFree starts a server on a directory as soon as another server has released it.
func startWhenFree(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Port = -1
	var s *Server
	streamstest.Eventually(t, time.Minute, func() (err error) {
		if s, err = Start(testContext(t), cfg); err != nil && !errors.Is(err, ErrInUse) {
			t.Fatal(err)
		}
		return err
	})
	t.Cleanup(func() { awaitDown(t, s) })
	return s
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir, Port: -1})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "this process") {
		t.Errorf("in the same process: %v", err)
	}
	stop(t, s)

	_, cmd := startChild(t, dir)
	_, err = Start(t.Context(), Config{Dir: dir, Port: -1})
	want := fmt.Sprintf("data directory %s is in use by process %d (another gateway? stop it, or use --data with another directory)",
		dir, cmd.Process.Pid)
	if err != nil && runtime.GOOS == "windows" { // a locked file cannot be read there
		want = err.Error()
	}
	if !errors.Is(err, ErrInUse) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	kill(cmd)
	start(t, Config{Dir: dir}) // works immediately
}

func TestDirectoryIsUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		_, err := Start(t.Context(), Config{Dir: dir, Port: -1})
		if err == nil || !strings.HasPrefix(err.Error(), "data directory "+dir+": ") ||
			!strings.HasSuffix(err.Error(), "(use --data with a directory that this user may write)") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestPortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, err = Start(t.Context(), Config{Dir: dir, Port: l.Addr().(*net.TCPAddr).Port})
	want := fmt.Sprintf("listen %s: address already in use (is nats-server running? use --nats nats://%[1]s to use it, or another --nats-port)",
		l.Addr())
	if !errors.Is(err, ErrPortTaken) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	start(t, Config{Dir: dir}) // the failed start released the directory
}

func TestPortIsTakenDuringStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	l.Close()
	hook := &logHook{seen: func(line string) {
		if strings.Contains(line, "Starting JetStream") {
			if l, err = net.Listen("tcp", address.String()); err != nil {
				t.Error(err)
			}
		}
	}}
	_, err = Start(t.Context(), Config{Dir: t.TempDir(), Port: address.Port, Logger: zerolog.New(hook)})
	l.Close()
	if !errors.Is(err, ErrPortTaken) {
		t.Errorf("start: %v", err)
	}
}
