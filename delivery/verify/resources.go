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

// Resources are what gateways hold, and what they make NATS hold.
type Resources struct {
	Files   map[int]int    // open ones, by the gateway's process id
	Tails   int            // consumers that read the stream for a gateway
	Cursors map[string]int // durable consumers, by user and device
}

// Measure counts. Open files are counted where the system has /proc.
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

// spare is how many files more than before are no leak: what the runtime and NATS open now and then.
const spare = 16

// Since compares what is held when all clients have gone with what was held before they came: no more files, one Tail for each
// gateway, one durable for each cursor.
func (r Resources) Since(before Resources) error {
	var leaks []error
	for pid, files := range r.Files {
		if had, known := before.Files[pid]; known && files > had+spare {
			leaks = append(leaks, fmt.Errorf("gateway %d has %d files open, and had %d", pid, files, had))
		}
	}
	if r.Tails != len(r.Files) {
		leaks = append(leaks, fmt.Errorf("%d consumers read the stream for %d gateways", r.Tails, len(r.Files)))
	}
	for id, n := range r.Cursors {
		if n > 1 {
			leaks = append(leaks, fmt.Errorf("cursor %s has %d durables", id, n))
		}
	}
	return errors.Join(leaks...)
}
