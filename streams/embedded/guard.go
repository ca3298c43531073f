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

// lockDir makes dir and takes the exclusive lock on it, which ends with the process at the latest, kill -9 included. The
// file stays: to remove it would let two processes lock two files of one name.
func lockDir(dir string) (*flock.Flock, error) {
	const hint = "(use --data with a directory that this user may write)"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s: %w %s", dir, err, hint)
	}
	path := filepath.Join(dir, lockFile)
	lock := flock.New(path)
	locked, err := lock.TryLock()
	for tries := 0; tries < 10 && err == nil && !locked; tries++ { // or who only Inspects would keep us from starting
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
	// The number serves the message only. Where a locked file cannot be written or read by others (Windows), the message
	// does without.
	_ = os.WriteFile(path, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o600)
	return lock, nil
}

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

// checkPort asks for the address before the store is recovered: the server itself would find out at the end, minutes
// later for a large store, and tell its log only.
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
			err = errno // without the address and the system call, which net repeats
		}
		return fmt.Errorf("listen %s: %w (choose an address of this machine and a port this user may use)", address, err)
	}
}
