//go:build !linux && !darwin && !freebsd && !windows

package embedded

import (
	"errors"
	"syscall"
)

const (
	errAddrInUse = syscall.EADDRINUSE
	canSyncDirs  = false
)

// diskSpace is not supported on this system. The server then limits the store to 75% of the free space.
func diskSpace(string) (free, total uint64, err error) {
	return 0, 0, errors.ErrUnsupported
}
