package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// childEnv is an environment variable with a directory. If it is set, this binary runs a server on that directory until
// its standard input ends.
const childEnv = "TIDINGS_TEST_EMBEDDED"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(childEnv); ok {
		os.Exit(child(dir))
	}
	streamstest.Main(m, streamstest.NoLeaks)
}

func child(dir string) int {
	s, err := Start(context.Background(), Config{Dir: dir, Port: -1})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.ClientURL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Stop(); err != nil {
		return 1
	}
	return 0
}

// startChild starts a server in a separate process and returns its URL and the process, which is killed when the test
// ends.
func startChild(t *testing.T, dir string) (string, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	if _, err := cmd.StdinPipe(); err != nil { // closed when this process ends
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	line := make([]byte, 1000)
	n, err := out.Read(line)
	url := strings.TrimSpace(string(line[:n]))
	if !strings.HasPrefix(url, "nats://") {
		t.Fatalf("output of the child: %q, %v", url, err)
	}
	return url, cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start runs a server on any free port and stops it when the test ends.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Port == 0 {
		cfg.Port = -1
	}
	s, err := Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { awaitDown(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// awaitDown stops a server and waits until it is down, longer than StopTimeout if necessary.
func awaitDown(t *testing.T, s *Server) {
	t.Helper()
	streamstest.Eventually(t, time.Minute, s.Stop)
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(streamstest.Connect(t, url))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func makeStream(t *testing.T, js jetstream.JetStream) jetstream.Stream {
	t.Helper()
	stream, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowMsgTTL: true})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func makeDurables(t *testing.T, stream jetstream.Stream, n int, storage jetstream.StorageType) {
	t.Helper()
	ctx := testContext(t)
	var makers errgroup.Group
	makers.SetLimit(16)
	for i := range n {
		makers.Go(func() error {
			_, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
				Durable:       fmt.Sprint("user-", i),
				AckPolicy:     jetstream.AckAllPolicy,
				FilterSubject: fmt.Sprint("s.", i),
				MemoryStorage: storage == jetstream.MemoryStorage,
			})
			return err
		})
	}
	if err := makers.Wait(); err != nil {
		t.Fatal(err)
	}
}

// logHook is a log writer that collects the lines and calls seen for each of them.
type logHook struct {
	mu   sync.Mutex
	text strings.Builder
	seen func(line string)
}

func (h *logHook) Write(p []byte) (int, error) {
	h.mu.Lock()
	h.text.Write(p)
	h.mu.Unlock()
	if h.seen != nil {
		h.seen(string(p))
	}
	return len(p), nil
}

func (h *logHook) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}
