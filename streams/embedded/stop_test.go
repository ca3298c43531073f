package embedded

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// TestStopIsBounded stops a server with 300 durables, which takes nats-server 3 s, with a shorter timeout.
func TestStopIsBounded(t *testing.T) {
	const durables = 300
	dir := t.TempDir()
	s := start(t, Config{Dir: dir, StopTimeout: 500 * time.Millisecond, SyncInterval: time.Second})
	js := connect(t, s.ClientURL())
	makeDurables(t, makeStream(t, js), durables, jetstream.FileStorage)
	if _, err := js.Publish(testContext(t), "s.0", []byte("hello")); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	err := s.Stop()
	if took := time.Since(began); took > 10*time.Second { // generous, because the machine may be busy
		t.Errorf("Stop took %s", took)
	}
	if err == nil {
		t.Log("the server stopped within the timeout: nats-server may have become faster")
	} else if !errors.Is(err, ErrStopping) {
		t.Error(err)
	} else if _, err := Start(t.Context(), Config{Dir: dir, Port: -1}); !errors.Is(err, ErrInUse) {
		t.Errorf("start while the first server is still stopping: %v", err)
	}

	awaitDown(t, s)
	t.Logf("%d durables were stopped within %s", durables, time.Since(began))
	s = start(t, Config{Dir: dir, StopTimeout: 10 * time.Millisecond})
	stream, err := connect(t, s.ClientURL()).Stream(testContext(t), "S")
	if err != nil {
		t.Fatal(err)
	}
	if state := stream.CachedInfo().State; state.Msgs != 1 || state.Consumers != durables {
		t.Errorf("afterwards: %d messages, %d consumers", state.Msgs, state.Consumers)
	}
	// The durables of a deleted stream need not be stopped, which makes the end of the test fast.
	if err := connect(t, s.ClientURL()).DeleteStream(testContext(t), "S"); err != nil {
		t.Fatal(err)
	}
}

// TestKilled kills the server's process while clients publish. Every acknowledged message must be stored under its
// sequence.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	url, cmd := startChild(t, dir)
	js := connect(t, url)
	makeDurables(t, makeStream(t, js), 3, jetstream.FileStorage)

	var (
		mu    sync.Mutex
		acked = map[uint64]string{}
		wg    sync.WaitGroup
	)
	enough := make(chan struct{})
	for writer := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				text := fmt.Sprintf("%d from %d", i, writer)
				ack, err := js.Publish(testContext(t), "s.x", []byte(text))
				if err != nil {
					return // killed
				}
				mu.Lock()
				acked[ack.Sequence] = text
				if len(acked) == 200 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-testContext(t).Done():
		t.Error("fewer than 200 acknowledgements within a minute")
	}
	kill(cmd)
	js.Conn().Close() // unblocks publishers that wait for an acknowledgement
	wg.Wait()

	log := &logHook{}
	s := start(t, Config{Dir: dir, Logger: zerolog.New(log).Level(zerolog.WarnLevel)})
	stream, err := connect(t, s.ClientURL()).Stream(testContext(t), "S")
	if err != nil {
		t.Fatal(err)
	}
	if log.String() != "" { // nothing is lost, so there is nothing to warn about
		t.Errorf("warnings at the start after a crash: %s", log)
	}
	for seq, want := range acked {
		msg, err := stream.GetMsg(testContext(t), seq)
		if err != nil {
			t.Fatalf("message %d was acknowledged: %v", seq, err)
		}
		if string(msg.Data) != want {
			t.Errorf("message %d is %q, want %q", seq, msg.Data, want)
		}
	}
	if state := stream.CachedInfo().State; state.Consumers != 3 {
		t.Errorf("%d durables, want 3", state.Consumers)
	}
	t.Logf("%d acknowledged", len(acked))
}

func TestErrStoppingText(t *testing.T) {
	s := &Server{cfg: Config{Dir: "data", StopTimeout: time.Millisecond}, down: make(chan struct{})}
	s.stopping.Do(func() {}) // Stop was called, and the server never gets down
	err := s.Stop()
	if !errors.Is(err, ErrStopping) || !strings.HasPrefix(err.Error(), "NATS server on data still stopping after 1ms") {
		t.Error(err)
	}
}
