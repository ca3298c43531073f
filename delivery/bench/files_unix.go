//go:build unix

package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const otherFiles = 100 // files that a process opens in addition to its connections

// checkFileLimit returns an error if a process may not open the given number of connections. The Go runtime raises the
// soft limit to the hard limit at start, in this process and in the servers that it starts.
func checkFileLimit(connections int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if uint64(limit.Cur) < uint64(connections+otherFiles) {
		return fmt.Errorf("%d connections need more than the limit of %d open files (raise ulimit -n, or use a smaller --scale, or --only)",
			connections, uint64(limit.Cur))
	}
	return nil
}
