// Command tidings delivers notifications that must not get lost, on NATS JetStream.
//
// Exit codes: 0 it did what was asked, 1 it failed, 64 it was asked in the wrong way.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// exitUsage says that to try again would be no better. It is EX_USAGE of sysexits.h, and not 2, with which Go ends a process that panics.
const exitUsage = 64

func main() { os.Exit(run()) }

// run is main for tests too, which must not exit.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once, but for a gateway: see hurry

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
