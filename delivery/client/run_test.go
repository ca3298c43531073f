package client_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/client"
)

// run is a running client. It records the client's events as text: "connecting", "waiting", "msg
// 97", "gap 41 97 expired" and so on.
type run struct {
	*client.Client
	t      *testing.T
	events chan string
	cancel context.CancelFunc

	ended chan struct{} // closed after err is written
	err   error

	mu     sync.Mutex
	states map[client.State]error // the last error reported with each state
}

// start runs a client with short times against the server. change may set more of the
// configuration; events are recorded around its OnMessage.
func start(s *server, change func(cfg *client.Config)) *run {
	s.t.Helper()
	r := &run{
		t: s.t, events: make(chan string, 4096), ended: make(chan struct{}), states: map[client.State]error{},
	}
	cfg := client.Config{
		URL:        s.URL,
		Token:      func(context.Context) (string, error) { return "token-1", nil },
		AckEvery:   5 * time.Millisecond,
		MinBackoff: time.Millisecond,
		MaxBackoff: 5 * time.Millisecond,
		OnReady:    func(f client.Ready) { r.record("ready %s %s %d", f.User, f.Epoch, f.After) },
		OnGap:      func(f client.Gap) { r.record("gap %d %d %s", f.After, f.Next, f.Reason) },
		OnLive:     func(seq uint64) { r.record("live at %d", seq) },
		OnAcked:    func(seq, unread uint64) { r.record("acked %d %d", seq, unread) },
		OnError:    func(err error) { r.record("error %v", err) },
	}
	cfg.OnState = func(state client.State, err error) {
		r.mu.Lock()
		r.states[state] = err
		r.mu.Unlock()
		r.record("%s", state)
	}
	if change != nil {
		change(&cfg)
	}
	handle := cfg.OnMessage
	cfg.OnMessage = func(ctx context.Context, m client.Message) error {
		r.record("msg %d", m.Seq)
		if handle == nil {
			return nil
		}
		return handle(ctx, m)
	}
	c, err := client.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Client = c
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.ended)
		r.err = c.Run(ctx)
	}()
	s.t.Cleanup(func() { r.stop() })
	return r
}

func (r *run) record(format string, args ...any) { r.events <- fmt.Sprintf(format, args...) }

// want waits for exactly these events, in this order.
func (r *run) want(all ...string) {
	r.t.Helper()
	for _, want := range all {
		if got := r.event(want); got != want {
			r.t.Fatalf("event %q, want %q", got, want)
		}
	}
}

// until waits for these events in this order, and ignores others.
func (r *run) until(all ...string) {
	r.t.Helper()
	for _, want := range all {
		for r.event(want) != want {
		}
	}
}

func (r *run) event(want string) string {
	r.t.Helper()
	select {
	case got := <-r.events:
		return got
	case <-time.After(timeout):
		r.t.Fatalf("no event %q", want)
		return ""
	}
}

// reason returns the error of the last change to a state.
func (r *run) reason(state client.State) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[state]
}

// wait waits until Run returns by itself, and returns its error.
func (r *run) wait() error {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(timeout):
		r.t.Fatal("Run did not return")
	}
	noGoroutines(r.t)
	return r.err
}

// stop stops the client and returns the error of Run.
func (r *run) stop() error {
	r.t.Helper()
	r.cancel()
	return r.wait()
}

// noGoroutines checks, without waiting, that no goroutine of a connection is left.
func noGoroutines(t *testing.T) {
	t.Helper()
	for stack := range strings.SplitSeq(stacks(), "\n\n") {
		if strings.Contains(stack, "client.(*conn)") {
			t.Errorf("goroutine left after Run returned:\n%s", stack)
		}
	}
}

// stacks returns the stacks of all goroutines.
func stacks() string {
	all := make([]byte, 1<<20)
	return string(all[:runtime.Stack(all, true)])
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout waiting for: %s", what)
		}
	}
}

// gate blocks handlers until it is closed.
type gate chan struct{}

func (g gate) wait(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive returns the next value of a channel.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(timeout):
		t.Fatal("timeout: nothing received")
		panic("unreachable")
	}
}
