//go:build !unix

package main

// fileLimit returns how many files and connections this process may have open. It is not known on this system.
func fileLimit() (n uint64, known bool) { return 0, false }
