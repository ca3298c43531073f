package embedded

import "golang.org/x/sys/windows"

const (
	errAddrInUse = windows.WSAEADDRINUSE // syscall.EADDRINUSE is a number of Go's own here
	canSyncDirs  = false
)

// diskSpace of the file system that holds dir, in bytes; free is what this user may fill.
func diskSpace(dir string) (free, total uint64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	err = windows.GetDiskFreeSpaceEx(name, &free, &total, nil)
	return free, total, err
}
