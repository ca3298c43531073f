package embedded

import "golang.org/x/sys/windows"

const (
	errAddrInUse = windows.WSAEADDRINUSE // syscall.EADDRINUSE is a value invented by Go on Windows
	canSyncDirs  = false
)

// diskSpace returns the free and total bytes of the file system that holds dir; free is what this user may use.
func diskSpace(dir string) (free, total uint64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	err = windows.GetDiskFreeSpaceEx(name, &free, &total, nil)
	return free, total, err
}
