package streams

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// Whoever waits for the second copy of the generation, which NATS may be slow to tell, keeps nobody else waiting past their own time.
func TestAGenerationThatNATSDoesNotTell(t *testing.T) {
	t.Parallel()
	s := streamstest.Run(t, streamstest.WithConfig(`authorization { users = [
		{user: all, password: x}
		{user: some, password: x, permissions: {publish: {deny: "$JS.API.CONSUMER.INFO.>"}}}
	] }`))
	if _, err := Open(t.Context(), s.Connect(t, nats.UserInfo("all", "x")), Config{}); err != nil {
		t.Fatal(err)
	}
	denied := make(chan struct{}, 1)
	stream, err := newStream(s.Connect(t, nats.UserInfo("some", "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {
		signal(denied)
	})), Config{})
	if err != nil {
		t.Fatal(err)
	}
	patient, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := stream.State(patient)
		ended <- err
	}()
	<-denied
	hurried, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := stream.State(hurried); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in a hurry: %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("it waited for another, who ended with %v", err)
	default:
		stop()
		<-ended
	}
	stop()
}
