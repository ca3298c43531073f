package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// isTerminal reports whether the reader is a terminal.
func isTerminal(r io.Reader) bool {
	file, ok := r.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// readInput calls read, which reads standard input, and returns early if ctx is done, so that Ctrl-C stops a command that waits for input.
// The pending read then lasts until the process exits.
func readInput[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, errors.New("interrupted")
	}
}

// readLine reads one line of standard input, and returns it without the line break.
func readLine(cmd *cobra.Command) (string, error) {
	line, err := readInput(cmd.Context(), func() (string, error) { return bufio.NewReader(cmd.InOrStdin()).ReadString('\n') })
	if line != "" && errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// confirm asks the user a question, and returns an error unless the answer is yes.
func confirm(cmd *cobra.Command, question string) error {
	fmt.Fprint(cmd.ErrOrStderr(), question+" [y/N] ")
	answer, err := readLine(cmd)
	if err != nil {
		return fmt.Errorf("read the answer: %w (nothing was removed)", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was removed")
}
