package streamstest

import "syscall"

// dieWithParent: the end of its stdin stops a child too, but not one that is paused.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
