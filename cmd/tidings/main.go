// Command tidings delivers notifications that must not get lost, on NATS JetStream.
//
// Exit codes: 0 success, 1 failure, 64 wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// exitUsage is the exit code for wrong usage, which a retry does not cure. It is EX_USAGE of sysexits.h. It is not 2, which is Go's exit
// code for a panic.
const exitUsage = 64

func main() { os.Exit(run()) }

// run is main without the exit, so that tests can call it.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills the process, except in a gateway: see hurry

	err := newRoot().ExecuteContext(ctx)
	var bad *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &bad):
		fmt.Fprintf(os.Stderr, "tidings: %v (see %s --help)\n", err, bad.command)
		return exitUsage
	}
	fmt.Fprintln(os.Stderr, "tidings:", err)
	return 1
}
