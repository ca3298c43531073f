package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

const lockFile = "tidings.lock"

// lockDir creates dir if necessary and takes an exclusive lock on it. The operating system releases the lock when the
// process ends, even after SIGKILL. The lock file is never removed: otherwise two processes could each lock a different
// file with this name.
func lockDir(dir string) (*flock.Flock, error) {
	const hint = "(use --data with a directory that this user may write)"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s: %w %s", dir, err, hint)
	}
	path := filepath.Join(dir, lockFile)
	lock := flock.New(path)
	locked, err := lock.TryLock()
	for tries := 0; tries < 10 && err == nil && !locked; tries++ { // Inspect may hold the lock for a moment
		time.Sleep(10 * time.Millisecond)
		locked, err = lock.TryLock()
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %s: lock: %w %s", dir, err, hint)
	}
	if !locked {
		who, hint := holder(path)
		return nil, fmt.Errorf("data directory %s %w by %s %s", dir, ErrInUse, who, hint)
	}
	// The process ID is only used in the error message above. On Windows a locked file may not be readable or writable;
	// then the message has no process ID.
	_ = os.WriteFile(path, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o600)
	return lock, nil
}

// holder describes the process that holds the lock at path, with a hint for the user.
func holder(path string) (who, hint string) {
	hint = "(another gateway? stop it, or use --data with another directory)"
	text, _ := os.ReadFile(path)
	switch pid, err := strconv.Atoi(string(bytes.TrimSpace(text))); {
	case err != nil:
		return "another process", hint
	case pid == os.Getpid():
		return "this process", "(another server, or one that is still stopping)"
	default:
		return fmt.Sprintf("process %d", pid), hint
	}
}

// checkPort returns an error if the server could not listen on its address. It is called before the store is recovered,
// because the server itself listens only afterwards, which can be minutes later, and then only logs the error.
func checkPort(cfg Config) error {
	if cfg.InProcess {
		return nil
	}
	address := cfg.address()
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, errAddrInUse):
		return fmt.Errorf("listen %s: %w (is nats-server running? use --nats nats://%s to use it, or another --nats-port)",
			address, ErrPortTaken, address)
	default:
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			err = errno // net's error text repeats the address and the system call
		}
		return fmt.Errorf("listen %s: %w (choose an address of this machine and a port this user may use)", address, err)
	}
}
