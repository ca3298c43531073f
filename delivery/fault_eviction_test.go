package delivery_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// evictions are what a stream drops by its own limits, and how a client that lacks it is told.
var evictions = map[string]struct {
	stream streams.Config
	reason string
}{
	"by age":               {streams.Config{MaxAge: time.Second}, "expired"},
	"by the subject limit": {streams.Config{MaxMsgsPerSubject: 10}, "limit"},
	"by bytes":             {streams.Config{MaxBytes: 100 << 10}, "expired"},
}

// evicted waits until the stream has dropped something behind the seq, whatever else it takes to have it do so.
func (s *siege) evicted(t *testing.T, behind uint64, p *verify.Publisher, users ...string) {
	t.Helper()
	streamstest.Eventually(t, recovery, func() error {
		oldest, found, err := s.nodes[0].oldest(t, "alice")
		if err == nil && found && oldest > behind+1 {
			return nil
		}
		post(t, p, users...)
		return fmt.Errorf("alice's oldest is %d (%t), and should lie past %d: %w", oldest, found, behind+1, err)
	})
}

func (b *backend) oldest(t *testing.T, user string) (seq uint64, found bool, err error) {
	stream, err := streams.Find(t.Context(), b.nc, streams.Config{})
	if err != nil {
		return 0, false, err
	}
	subject, err := streams.UserSubject(user)
	if err != nil {
		return 0, false, err
	}
	return stream.Oldest(t.Context(), subject)
}

// What the stream drops while its reader is away is told, whether they know where they were or not, and nothing else is missing.
func TestWhatIsEvictedWhileOneIsAwayIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range evictions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := streamstest.Run(t)
			s := newSiege(t, server.URL())
			n := s.gateway(t, server.URL(), func(cfg *nodeConfig) { cfg.stream = c.stream })
			s.client(t, verify.ClientConfig{User: "alice"})
			s.client(t, verify.ClientConfig{Name: "alice's TV", User: "alice", Device: "tv", Forget: true})
			s.client(t, verify.ClientConfig{Name: "alice's phone", User: "alice", Device: "phone", Forget: true, Ack: verify.AckSometimes})
			s.client(t, verify.ClientConfig{Name: "who stays", User: "alice", Device: "watch"})
			s.live(t)
			p := s.publisher(t, "p")
			p.Pad = 2000
			post(t, p, "zoe", "bob", "alice", "alice", "alice", "alice") // hers keeps the stream's first where it is
			s.live(t)
			streamstest.Eventually(t, recovery, s.log.Missing)
			for _, g := range s.guests[:3] {
				g.leave()
			}
			n.connected(t, "alice", 1)
			_, at := s.guests[0].Position()
			post(t, p, "alice", "bob")
			s.evicted(t, at+1, p, "alice", "bob")
			s.publishing(t, 1, 20*time.Millisecond, []string{"bob", "alice"}, []string{"all"})
			for _, g := range s.guests[:3] {
				g.run(t)
			}
			s.live(t)
			s.goesOn(t, 20)
			if end := s.calm(t); end.Gaps[c.reason] < 3 {
				t.Errorf("three were to be told %s: %s", c.reason, end)
			}
		})
	}
}

// A client that stays connected but does not read is told as well, by being ended and a gap when it comes again.
func TestWhatIsEvictedUnderALaggingClientIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range evictions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := streamstest.Run(t)
			s := newSiege(t, server.URL())
			n := s.gateway(t, server.URL(), func(cfg *nodeConfig) {
				cfg.stream = c.stream
				cfg.delivery.WriteWithin = recovery // it is not for its silence that it is ended
				cfg.delivery.PongWithin = recovery
				cfg.delivery.Ping, cfg.tail.MaxBytes = calmPing, 20<<10
			})
			alice := s.client(t, verify.ClientConfig{User: "alice", URLs: []string{n.narrow(t)}, Dial: narrowDial})
			s.live(t)
			p := s.publisher(t, "p")
			p.Pad = 10 << 10
			post(t, p, "zoe", "bob", "alice") // hers keeps the stream's first where it is
			streamstest.Eventually(t, recovery, s.log.Missing)
			alice.Pause()
			for range 100 { // more than sockets hold
				post(t, p, "alice", "bob")
			}
			_, at := alice.Position()
			s.evicted(t, at+300, p, "alice", "bob") // hers among them are more than sockets and a batch that was read hold
			alice.Resume()
			s.live(t)
			post(t, p, "alice", "bob")
			if end := s.calm(t); end.Gaps[c.reason] == 0 {
				t.Errorf("nobody was told %s: %s", c.reason, end)
			}
		})
	}
}
