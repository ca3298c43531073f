//go:build !linux

package streamstest

import "syscall"

// dieWithParent: here the end of its stdin is all that stops a child.
func dieWithParent() *syscall.SysProcAttr { return nil }
