package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
)

// Resources counts what gateways use, in their own process and in NATS.
type Resources struct {
	Files   map[int]int    // open files, by process ID of the gateway
	Tails   int            // consumers with which gateways read the stream
	Cursors map[string]int // durable consumers that hold a position, by user and device
}

// Measure counts the resources of the gateways with the given process IDs. Counting open files needs /proc.
func Measure(ctx context.Context, nc *nats.Conn, gateways ...int) (Resources, error) {
	r := Resources{Files: map[int]int{}, Cursors: map[string]int{}}
	for _, pid := range gateways {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return r, err
		}
		r.Files[pid] = len(files)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return r, err
	}
	stream, err := js.Stream(ctx, streams.DefaultName)
	if err != nil {
		return r, err
	}
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		meta := info.Config.Metadata
		switch {
		case info.Config.Durable != "" && meta["user"] != "":
			r.Cursors[streams.CursorID{User: meta["user"], Device: meta["device"]}.String()]++
		case strings.HasPrefix(info.Name, "tidings-"):
			r.Tails++
		}
	}
	return r, consumers.Err()
}

// maxExtraFiles is how many more files than before a gateway may have open without counting as a leak. The Go runtime
// and the NATS client open some files occasionally.
const maxExtraFiles = 16

// Since compares the resources after all clients have disconnected with those before they connected. It returns an
// error if a gateway has more files open, if there is not exactly one tail per gateway, or if a position has several
// durables.
func (r Resources) Since(before Resources) error {
	var leaks []error
	for pid, files := range r.Files {
		if had, known := before.Files[pid]; known && files > had+maxExtraFiles {
			leaks = append(leaks, fmt.Errorf("gateway %d has %d files open, before it had %d", pid, files, had))
		}
	}
	if r.Tails != len(r.Files) {
		leaks = append(leaks, fmt.Errorf("%d consumers read the stream for %d gateways", r.Tails, len(r.Files)))
	}
	for id, n := range r.Cursors {
		if n > 1 {
			leaks = append(leaks, fmt.Errorf("position %s has %d durables, want one", id, n))
		}
	}
	return errors.Join(leaks...)
}
