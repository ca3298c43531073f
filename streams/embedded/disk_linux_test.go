package embedded

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// TestDiskFillsUp fills the disk with another file, either nearly, so that publishing is refused before a write fails,
// or entirely, so that a write fails and nats-server stops writing to the stream. Stored messages must stay readable
// and publishers must get errors. Once there is space, publishing must work again in the same process.
func TestDiskFillsUp(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]int{"nearly": 2 << 20, "entirely": 0} {
		for _, inProcess := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " in process ", inProcess), func(t *testing.T) {
				t.Parallel()
				disk := streamstest.NewDisk(t, 64<<20)
				s := start(t, Config{Dir: filepath.Join(disk.Dir, "store"), InProcess: inProcess})
				p, first := newPublisher(t, s), s.server()
				p.publish()
				if disk.Fill(leave); leave == 0 {
					p.breakStream(s, disk)
				}
				streamstest.Eventually(t, time.Minute, func() error {
					if !s.Full() {
						return errors.New("the server has not noticed that the disk is full")
					}
					return nil
				})
				if err := p.try(); !errors.Is(err, errRefused) && (leave > 0 || !errors.Is(err, nats.ErrTimeout)) {
					t.Errorf("publishing to a full disk: %v", err)
				}
				p.checkStored()

				disk.Empty()
				streamstest.Eventually(t, time.Minute, p.try)
				p.publish()
				p.checkStored()
				if s.Full() {
					t.Error("publishing is refused although the disk has space")
				}
				if restarted := s.server() != first; restarted != (leave == 0) {
					t.Errorf("the server was restarted: %v, want %v", restarted, leave == 0)
				}
			})
		}
	}
}

// TestStartOnAFullDisk checks that a server started on a full disk allows publishing once there is space.
func TestStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := streamstest.NewDisk(t, 64<<20)
	cfg := Config{Dir: filepath.Join(disk.Dir, "store")}
	s := start(t, cfg)
	newPublisher(t, s).publish()
	awaitDown(t, s)
	disk.Fill(0)
	s = start(t, cfg)
	p := newPublisher(t, s)
	if err := p.try(); !errors.Is(err, errRefused) || !s.Full() {
		t.Errorf("publishing to a full disk: %v, full: %v", err, s.Full())
	}
	disk.Empty()
	streamstest.Eventually(t, time.Minute, p.try)
	p.checkStored()
}

var errRefused = &jetstream.APIError{ErrorCode: 10002} // JSAccountResourcesExceededErr

// TestStoreReachesItsLimit fills a small disk with messages only. The store's limit refuses them before the disk is full.
// The log and Full must report that, until there is room in the store again.
func TestStoreReachesItsLimit(t *testing.T) {
	t.Parallel()
	disk := streamstest.NewDisk(t, 24<<20)
	hook := &logHook{}
	s := start(t, Config{Dir: filepath.Join(disk.Dir, "store"), Logger: zerolog.New(hook)})
	p := newPublisher(t, s)
	p.size = 200_000
	err := p.try()
	for err == nil {
		err = p.try()
	}
	if got := len(p.acked); !errors.Is(err, errRefused) || got < 100 {
		t.Errorf("%d messages stored, then %v", got, err)
	}
	streamstest.Eventually(t, time.Minute, func() error {
		if !s.Full() {
			return errors.New("the server does not report that its store has reached the limit")
		}
		return nil
	})
	if log := hook.String(); strings.Count(log, "store limit reached") != 1 || !strings.Contains(log, "--max-store") || strings.Contains(log, "disk full") {
		t.Errorf("log: %s", log)
	}
	p.checkStored()

	stream, err := p.js.Stream(testContext(t), "S")
	if err == nil {
		err = stream.Purge(testContext(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, time.Minute, func() error {
		if s.Full() {
			return errors.New("the server reports a full store although it is empty")
		}
		return nil
	})
	if err := p.try(); err != nil {
		t.Error(err)
	}
}

// publisher publishes messages of the given size and records the acknowledged sequences.
type publisher struct {
	t     *testing.T
	js    jetstream.JetStream
	size  int
	acked []uint64
}

func newPublisher(t *testing.T, s *Server) *publisher {
	t.Helper()
	nc, err := s.Connect(nats.ReconnectWait(20 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	makeStream(t, js)
	return &publisher{t: t, js: js, size: 10_000}
}

// try publishes once.
func (p *publisher) try() error {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
	defer cancel()
	ack, err := p.js.Publish(ctx, "s.x", make([]byte, p.size))
	if err == nil {
		p.acked = append(p.acked, ack.Sequence)
	} else if errors.Is(err, context.DeadlineExceeded) {
		err = nats.ErrTimeout
	}
	return err
}

// breakStream publishes to a full disk until a write fails and the server stops writing to the stream. If the server
// refuses publishing before that, it tries again.
func (p *publisher) breakStream(s *Server, disk *streamstest.Disk) {
	p.t.Helper()
	streamstest.Eventually(p.t, time.Minute, func() error {
		for p.try() == nil {
		}
		if errors.Is(s.broken(), errOutOfSpace) {
			return nil
		}
		disk.Empty()
		streamstest.Eventually(p.t, time.Minute, p.try)
		disk.Fill(0)
		return errors.New("no write has failed yet")
	})
}

// publish publishes 50 messages, all of which must be acknowledged.
func (p *publisher) publish() {
	p.t.Helper()
	for range 50 {
		if err := p.try(); err != nil {
			p.t.Fatal(err)
		}
	}
}

// checkStored checks that all acknowledged messages can be read.
func (p *publisher) checkStored() {
	p.t.Helper()
	stream, err := p.js.Stream(testContext(p.t), "S")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, seq := range p.acked {
		if _, err := stream.GetMsg(testContext(p.t), seq); err != nil {
			p.t.Errorf("message %d was acknowledged: %v", seq, err)
		}
	}
}
