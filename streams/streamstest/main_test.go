package streamstest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestMain(m *testing.M) { Main(m, NoLeaks) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func makeStream(t *testing.T, js jetstream.JetStream) jetstream.Stream {
	t.Helper()
	stream, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func publish(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	for i := range n {
		if _, err := js.Publish(testContext(t), fmt.Sprintf("s.%d", i), []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
}

// holds returns a condition for Eventually: the stream has the wanted number of messages.
func holds(js jetstream.JetStream, want uint64) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
		defer cancel()
		stream, err := js.Stream(ctx, "S")
		if err != nil {
			return err
		}
		if got := stream.CachedInfo().State.Msgs; got != want {
			return fmt.Errorf("%d messages, want %d", got, want)
		}
		return nil
	}
}

// failer is a testing.TB that records the text of Fatalf and ends the goroutine.
type failer struct {
	testing.TB
	text string
}

func (f *failer) Helper() {}
func (f *failer) Fatalf(format string, v ...any) {
	f.text = fmt.Sprintf(format, v...)
	runtime.Goexit()
}

func TestEventually(t *testing.T) {
	calls := 0
	Eventually(t, 10*time.Second, func() error {
		if calls++; calls < 5 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 5 {
		t.Errorf("%d calls, want 5", calls)
	}

	f := &failer{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Eventually(f, 10*time.Millisecond, func() error { return errors.New("the last error") })
	}()
	<-done
	if !strings.Contains(f.text, "not within 10ms: the last error") {
		t.Errorf("failed with %q", f.text)
	}
}
