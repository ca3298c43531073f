//go:build unix

package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const otherFiles = 100 // that a process has open beside its connections

// enoughFiles says whether a process may have so many connections. Go has raised the soft limit to the hard one at start, here and
// in the servers that we start.
func enoughFiles(connections int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if uint64(limit.Cur) < uint64(connections+otherFiles) {
		return fmt.Errorf("%d connections need more than the %d files that a process may open (raise ulimit -n, or use a smaller --scale, or --only)",
			connections, uint64(limit.Cur))
	}
	return nil
}
