package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Inspection is the result of Inspect.
type Inspection struct {
	Dir         string // absolute
	Exists      bool
	UsedBy      string // the process that uses the directory, such as "process 42"; empty: none
	Durables    int    // durable consumers in the store
	Bytes       int64  // bytes of messages in the store
	Free, Total uint64 // bytes of the disk; both 0: unknown
	Reserve     uint64 // bytes that the default of Config.MaxStore leaves free
	MinFree     uint64 // free bytes below which publishing is refused
}

// Inspect examines a store directory without changing it. If the directory is not in use, Inspect holds its lock for a
// few microseconds; Start waits for that.
func Inspect(dir string) (in Inspection, err error) {
	if in.Dir, err = filepath.Abs(dir); err != nil {
		return in, err
	}
	existing := in.Dir // or its nearest parent that exists
	for {
		if _, err = os.Stat(existing); !errors.Is(err, fs.ErrNotExist) || existing == filepath.Dir(existing) {
			break
		}
		existing = filepath.Dir(existing)
	}
	if err != nil {
		return in, err
	}
	if in.Exists = existing == in.Dir; in.Exists {
		path := filepath.Join(in.Dir, lockFile)
		lock := flock.New(path, flock.SetFlag(os.O_RDWR)) // without O_CREATE
		locked, err := lock.TryRLock()                    // shared, so that several calls of Inspect do not block each other
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
	if in.Free, in.Total, err = diskSpace(existing); err != nil {
		return in, nil
	}
	in.Reserve, in.MinFree = reserve(in.Total), refuseBelow(in.Total)
	return in, nil
}
