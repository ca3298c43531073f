package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// TestStopWhileWaitingForInput stops commands that wait for standard input, as Ctrl-C does.
func TestStopWhileWaitingForInput(t *testing.T) {
	for _, args := range []string{"publish alice -", "listen --token -"} {
		typed, typing := io.Pipe() // nothing is typed
		defer typing.Close()
		ctx, stop := context.WithCancel(t.Context())
		root := newRoot()
		root.SetArgs(strings.Fields(args))
		root.SetIn(typed)
		ended := make(chan error, 1)
		go func() { ended <- root.ExecuteContext(ctx) }()
		stop()
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "standard input: interrupted") {
				t.Errorf("%s ends with %v", args, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s does not end", args)
		}
	}
}
