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

// run is a client that runs, and what it said: "connecting", "waiting", "msg 97", "gap 41 97 expired" and so on.
type run struct {
	*client.Client
	t      *testing.T
	said   chan string
	cancel context.CancelFunc

	ended chan struct{} // closed after err is written
	err   error

	mu     sync.Mutex
	states map[client.State]error // the last error told with each
}

// start runs a client of the server with short times; change may set more, before the recorder is put around OnMessage.
func start(s *server, change func(cfg *client.Config)) *run {
	s.t.Helper()
	r := &run{
		t: s.t, said: make(chan string, 4096), ended: make(chan struct{}), states: map[client.State]error{},
	}
	cfg := client.Config{
		URL:        s.URL,
		Token:      func(context.Context) (string, error) { return "token-1", nil },
		AckEvery:   5 * time.Millisecond,
		MinBackoff: time.Millisecond,
		MaxBackoff: 5 * time.Millisecond,
		OnReady:    func(f client.Ready) { r.say("ready %s %s %d", f.User, f.Epoch, f.After) },
		OnGap:      func(f client.Gap) { r.say("gap %d %d %s", f.After, f.Next, f.Reason) },
		OnLive:     func(seq uint64) { r.say("live at %d", seq) },
		OnAcked:    func(seq, unread uint64) { r.say("acked %d %d", seq, unread) },
		OnError:    func(err error) { r.say("error %v", err) },
	}
	cfg.OnState = func(state client.State, err error) {
		r.mu.Lock()
		r.states[state] = err
		r.mu.Unlock()
		r.say("%s", state)
	}
	if change != nil {
		change(&cfg)
	}
	handle := cfg.OnMessage
	cfg.OnMessage = func(ctx context.Context, m client.Message) error {
		r.say("msg %d", m.Seq)
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

func (r *run) say(format string, args ...any) { r.said <- fmt.Sprintf(format, args...) }

// want waits for exactly these, in this order.
func (r *run) want(all ...string) {
	r.t.Helper()
	for _, want := range all {
		if got := r.hear(want); got != want {
			r.t.Fatalf("the client says %q, want %q", got, want)
		}
	}
}

// until waits for these, in this order, whatever else comes between.
func (r *run) until(all ...string) {
	r.t.Helper()
	for _, want := range all {
		for r.hear(want) != want {
		}
	}
}

func (r *run) hear(want string) string {
	r.t.Helper()
	select {
	case got := <-r.said:
		return got
	case <-time.After(patience):
		r.t.Fatalf("the client did not say %q", want)
		return ""
	}
}

// why is the error that was told with the last change to a state.
func (r *run) why(state client.State) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[state]
}

// wait waits for Run to end by itself and returns its error.
func (r *run) wait() error {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatal("Run did not return")
	}
	noGoroutines(r.t)
	return r.err
}

// stop ends Run.
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
			t.Errorf("Run returned and left behind:\n%s", stack)
		}
	}
}

// stacks are those of all goroutines.
func stacks() string {
	all := make([]byte, 1<<20)
	return string(all[:runtime.Stack(all, true)])
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// gate blocks handlers until it is opened.
type gate chan struct{}

func (g gate) pass(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive takes from a channel what must come.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
