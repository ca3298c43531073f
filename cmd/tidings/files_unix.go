//go:build unix

package main

import "syscall"

// fileLimit returns how many files and connections this process may have open.
func fileLimit() (n uint64, known bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), err == nil
}
