//go:build !linux

package streamstest

import "syscall"

// dieWithParent has no effect on this system. Only the end of its standard input stops a child when this process ends.
func dieWithParent() *syscall.SysProcAttr { return nil }
