package streamstest

import "syscall"

// dieWithParent kills the child when this process ends. The end of its standard input would not stop a paused child.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
