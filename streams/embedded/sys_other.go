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

// diskSpace is not known here: the server's own default, 75% of what is free, holds.
func diskSpace(string) (free, total uint64, err error) {
	return 0, 0, errors.ErrUnsupported
}
