//go:build linux || darwin || freebsd

package embedded

import "syscall"

const (
	errAddrInUse = syscall.EADDRINUSE
	canSyncDirs  = true
)

// diskSpace returns the free and total bytes of the file system that holds dir; free is what an ordinary user may use.
func diskSpace(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	size := uint64(st.Bsize)
	return uint64(max(st.Bavail, 0)) * size, uint64(st.Blocks) * size, nil
}
