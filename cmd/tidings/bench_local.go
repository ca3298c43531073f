package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/delivery/bench"
)

// children starts the servers to measure: this program in separate processes, with their data in a temporary directory.
type children struct {
	self string
	dir  string
	sync syncFlag
	n    int // number of processes started so far
}

func newChildren(sync syncFlag) (*children, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tidings-bench-")
	return &children{self: self, dir: dir, sync: sync}, err
}

func (c *children) remove() { _ = os.RemoveAll(c.dir) }

// gateway starts a gateway with embedded NATS.
func (c *children) gateway(ctx context.Context, needs bench.Needs) (*bench.Server, error) {
	args := append([]string{"gateway", "--nats-port", "-1", "--sync", c.sync.String()}, noLimitsPerAddress()...)
	if needs.Tail > 0 {
		args = append(args, "--tail", strconv.FormatInt(needs.Tail, 10))
	}
	if needs.MaxMsgsPerUser > 0 {
		args = append(args, "--max-msgs-per-user", strconv.FormatInt(needs.MaxMsgsPerUser, 10))
	}
	server, at, err := c.withData(ctx, append(args, listening()...))
	if err != nil {
		return nil, err
	}
	server.Beside = func(ctx context.Context) (*bench.Server, error) {
		beside, _, err := c.start(ctx, append([]string{"gateway", "--nats", at.NATS}, slices.Concat(noLimitsPerAddress(), listening())...))
		return beside, err
	}
	return server, nil
}

// listening returns the flags of a gateway that start needs to find its addresses in the log.
func listening() []string {
	return []string{"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"}
}

func (c *children) streamFloor(ctx context.Context) (*bench.Server, error) {
	server, _, err := c.withData(ctx, []string{"bench", "floor-stream", "--sync", c.sync.String()})
	return server, err
}

func (c *children) attackers(ctx context.Context, url string, n int) (*bench.Server, error) {
	server, _, err := c.start(ctx, []string{"bench", "attackers", "--at", strings.TrimPrefix(url, "ws://"), "--connections", strconv.Itoa(n)})
	return server, err
}

func (c *children) socketFloor(ctx context.Context) (*bench.Server, error) {
	server, _, err := c.start(ctx, []string{"bench", "floor-sockets"})
	return server, err
}

// withData starts a process with a new store. The store is only removed at the very end: after many files were deleted,
// ext4 without a journal creates files ten times slower for minutes, and the next scenario creates some for each new
// user.
func (c *children) withData(ctx context.Context, args []string) (*bench.Server, servingAt, error) {
	data, err := os.MkdirTemp(c.dir, "data-")
	if err != nil {
		return nil, servingAt{}, err
	}
	return c.start(ctx, append(args, "--data", data))
}

// start starts a process and waits until its log has its addresses. The log is a file, so that this process need not
// read it while it measures.
func (c *children) start(ctx context.Context, args []string) (*bench.Server, servingAt, error) {
	const within = 2 * time.Minute
	c.n++
	name := filepath.Join(c.dir, fmt.Sprintf("%d.log", c.n))
	log, err := os.Create(name)
	if err != nil {
		return nil, servingAt{}, err
	}
	defer log.Close()
	cmd := exec.Command(c.self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	// TIDINGS_ variables are meant for this process only.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TIDINGS_") })
	if err := cmd.Start(); err != nil {
		return nil, servingAt{}, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the result is in ProcessState
		close(ended)
	}()
	kill := func() { // no orderly stop, because its data is removed
		_ = cmd.Process.Kill()
		<-ended
	}
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		if at, ok := serving(name); ok {
			admin := ""
			if at.Admin != "" {
				admin = "http://" + at.Admin
			}
			return &bench.Server{
				URL: "ws://" + at.Listen, Admin: admin,
				Connect: func() (*nats.Conn, error) {
					return nats.Connect(at.NATS, natsOptions("tidings bench", zerolog.Nop())...)
				},
				PIDs: []int{cmd.Process.Pid}, Stop: kill,
			}, at, nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-ended:
			err = fmt.Errorf("the process ended: %s", cmd.ProcessState)
		case <-late.C:
			err = fmt.Errorf("it did not become ready within %s", within)
		}
		kill()
		text, _ := os.ReadFile(name)
		return nil, servingAt{}, fmt.Errorf("start tidings %s: %w\n%s", strings.Join(args, " "), err, text[max(0, len(text)-2000):])
	}
}

// servingAt has the fields of JSON log lines that contain the addresses of a server.
type servingAt struct{ Message, Listen, NATS, Admin string }

// serving reads the addresses from a log. ok is false until it has the line "serving". The address of the admin
// listener is in an earlier line.
func serving(name string) (at servingAt, ok bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return at, false
	}
	for line := range bytes.Lines(text) {
		if json.Unmarshal(line, &at) == nil && at.Message == "serving" {
			return at, true
		}
	}
	return at, false
}

// deployed returns the deployment that the flags name.
func (o *benchOptions) deployed(_ context.Context, needs bench.Needs) (*bench.Server, error) {
	if needs.Attacked {
		return nil, fmt.Errorf("%w: it only attacks a gateway that --local starts", bench.ErrCannot)
	}
	if needs.Tail > 0 {
		return nil, fmt.Errorf("%w: it needs a gateway with a small --tail, which --local starts", bench.ErrCannot)
	}
	return &bench.Server{
		URL:     strings.TrimSuffix(o.url, "/"),
		Connect: func() (*nats.Conn, error) { return o.nats.connect("tidings bench", zerolog.Nop()) },
		PIDs:    o.pids, Shared: true, Stop: func() {},
	}, nil
}
