package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Inspection is what can be seen of a store directory from outside.
type Inspection struct {
	Dir         string // absolute
	Exists      bool
	UsedBy      string // "process 42", whose store it is; empty: nobody's
	Durables    int
	Bytes       int64  // of messages
	Free, Total uint64 // of the disk; 0, 0: unknown
	Reserve     uint64 // of Free, which MaxStore leaves by default
	Least       uint64 // of Free, below which publishing is refused
}

// Inspect looks at a store directory and changes nothing. It has the lock of one that is not in use for some µs, for which Start waits.
func Inspect(dir string) (in Inspection, err error) {
	if in.Dir, err = filepath.Abs(dir); err != nil {
		return in, err
	}
	there := in.Dir // or where it would be made
	for {
		if _, err = os.Stat(there); !errors.Is(err, fs.ErrNotExist) || there == filepath.Dir(there) {
			break
		}
		there = filepath.Dir(there)
	}
	if err != nil {
		return in, err
	}
	if in.Exists = there == in.Dir; in.Exists {
		path := filepath.Join(in.Dir, lockFile)
		lock := flock.New(path, flock.SetFlag(os.O_RDWR)) // without O_CREATE
		locked, err := lock.TryRLock()                    // shared with others who look
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return in, fmt.Errorf("lock: %w", err)
		case locked:
			if err := lock.Unlock(); err != nil {
				return in, err
			}
		default:
			in.UsedBy, _ = holder(path)
		}
		held := survey(in.Dir)
		in.Durables, in.Bytes = held.durables, held.bytes
	}
	if in.Free, in.Total, err = diskSpace(there); err != nil {
		return in, nil
	}
	in.Reserve, in.Least = reserve(in.Total), refuseBelow(in.Total)
	return in, nil
}
