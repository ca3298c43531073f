package streams_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// storm is publishers and readers at work, and a record of what they did.
type storm struct {
	*gateway
	pub *streams.Publisher // may have a connection of its own
	rng *rand.Rand

	mu      sync.Mutex
	stored  map[uint64]message // all that was acknowledged
	readers []*stormReader
}

type message struct {
	subject, frame string
	removed        bool // by somebody, or by its TTL
}

// stormReader is a reader whose sources change. What it read between two changes must be what those sources have.
type stormReader struct {
	*streams.Reader
	spans []span
	got   []streams.Entry
}

type span struct {
	from, to uint64
	sources  []streams.Source
}

const stormUsers = 15

func newStorm(g *gateway, pub *streams.Publisher, seed uint64) *storm {
	return &storm{gateway: g, pub: pub, rng: rand.New(rand.NewPCG(seed, 1)), stored: map[uint64]message{}}
}

func (s *storm) publish(n, size int, remove bool) error {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	var publishers sync.WaitGroup
	var failed error
	slots := make(chan struct{}, 8)
	for i := range n {
		user, length, ttl, after := fmt.Sprint(rng.IntN(stormUsers)), rng.IntN(size), time.Duration(0), rng.IntN(100)
		if remove && rng.IntN(10) == 0 {
			ttl = time.Second
		}
		slots <- struct{}{}
		publishers.Go(func() {
			defer func() { <-slots }()
			data := fmt.Sprint(i, strings.Repeat(".", length))
			receipt, err := s.pub.User(s.Context(), user, streams.Notification{Data: []byte(data), TTL: ttl})
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			subject := "notify.user." + user
			s.stored[receipt.Seq] = message{subject, fmt.Sprintf("%d %s %s", receipt.Seq, subject, data), ttl > 0}
			if old := receipt.Seq - min(receipt.Seq, uint64(after)); remove && i%20 == 0 && old > 0 {
				if m, ok := s.stored[old]; ok && !m.removed {
					m.removed = true
					s.stored[old] = m
					failed = errors.Join(failed, s.jetstream().DeleteMsg(s.Context(), old))
				}
			}
		})
	}
	publishers.Wait()
	return failed
}

// attach adds a reader of some users, or of one for whom nothing comes.
func (s *storm) attach(mark streams.State, after uint64) error {
	sources := s.sources()
	r, err := s.tail.Reader(mark, after, sources)
	if err != nil {
		return err
	}
	s.readers = append(s.readers, &stormReader{Reader: r, spans: []span{{from: after, sources: sources}}})
	return nil
}

func (s *storm) sources() (all []streams.Source) {
	if s.rng.IntN(5) == 0 {
		return []streams.Source{{Subject: "notify.user.nobody"}}
	}
	for _, i := range s.rng.Perm(stormUsers)[:1+s.rng.IntN(3)] {
		all = append(all, streams.Source{Subject: fmt.Sprint("notify.user.", i), After: s.rng.Uint64N(100)})
	}
	return all
}

// read lets all readers read until stop, and then to the stream's end.
func (s *storm) read(stop <-chan struct{}) error {
	failed := make(chan error, len(s.readers))
	for _, r := range s.readers {
		rng := rand.New(rand.NewPCG(s.rng.Uint64(), 3))
		changes := [][]streams.Source{s.sources(), s.sources(), s.sources()}
		go func() { failed <- s.readOne(r, rng, changes, stop) }()
	}
	var all error
	for range s.readers {
		all = errors.Join(all, <-failed)
	}
	return all
}

func (s *storm) readOne(r *stormReader, rng *rand.Rand, changes [][]streams.Source, stop <-chan struct{}) error {
	end := uint64(0)
	for deadline := time.Now().Add(3 * patience); ; {
		if time.Now().After(deadline) {
			return fmt.Errorf("a reader does not get further than %d of %d", r.Position(), end)
		}
		most := 1 + rng.IntN(100)
		began := time.Now()
		entries, err := r.Read(s.Context(), nil, most)
		r.got = append(r.got, entries...)
		switch {
		case errors.Is(err, streams.ErrReplaced):
			return err
		case err != nil: // NATS is away
			time.Sleep(20 * time.Millisecond)
			continue
		case time.Since(began) > patience:
			return fmt.Errorf("a read took %s", time.Since(began))
		}
		if len(changes) > 0 && rng.IntN(30) == 0 {
			r.change(changes[0])
			changes = changes[1:]
		}
		if rng.IntN(4) == 0 { // the client is slow
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
		if len(entries) == most {
			continue
		}
		if end > 0 && r.Position() >= end {
			r.spans[len(r.spans)-1].to = r.Position()
			return nil
		}
		select {
		case <-r.Wake():
		case <-stop:
			if end > 0 {
				time.Sleep(time.Millisecond)
			} else if mark, err := s.tail.Mark(s.Context()); err == nil {
				end = mark.Last
				<-s.tail.Reached(mark.Epoch, end)
			}
		}
	}
}

func (r *stormReader) change(sources []streams.Source) {
	at := r.Position()
	r.spans[len(r.spans)-1].to = at
	r.spans = append(r.spans, span{from: at, sources: sources})
	r.Sources(sources)
}

// check compares what was read with what was stored.
func (s *storm) check() {
	s.Helper()
	var seqs []uint64
	for seq := range s.stored {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for i, r := range s.readers {
		got := map[uint64]string{}
		for j, e := range r.got {
			if j > 0 && e.Seq <= r.got[j-1].Seq {
				s.Errorf("reader %d: %d after %d", i, e.Seq, r.got[j-1].Seq)
			}
			got[e.Seq] = string(e.Frame)
		}
		missing := 0
		for _, span := range r.spans {
			for _, seq := range seqs {
				m := s.stored[seq]
				k := slices.IndexFunc(span.sources, func(s streams.Source) bool { return s.Subject == m.subject && s.After < seq })
				if seq <= span.from || seq > span.to || k < 0 {
					continue
				}
				frame, ok := got[seq]
				delete(got, seq)
				if !ok && !m.removed {
					missing++
				}
				if ok && frame != m.frame {
					s.Errorf("reader %d: at %d %.60q, want %.60q", i, seq, frame, m.frame)
				}
			}
		}
		if missing > 0 || len(got) > 0 {
			s.Errorf("reader %d: %d of %d messages are missing, %d are not its own", i, missing, len(r.got)+missing, len(got))
		}
		r.Close()
	}
}

// Readers that fall out of memory again and again, while publishing goes on, get exactly what is theirs.
func TestReadersFallBehind(t *testing.T) {
	t.Parallel()
	for seed := range streamstest.Either[uint64](2, 20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{MaxBytes: 20_000})
			s := newStorm(g, g.pub, seed)
			if err := s.publish(500, 400, true); err != nil {
				t.Fatal(err)
			}
			mark := g.mark()
			for range 10 {
				if err := s.attach(mark, s.rng.Uint64N(mark.Last)); err != nil {
					t.Fatal(err)
				}
			}
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				if err := s.publish(2500, 400, true); err != nil {
					t.Error(err)
				}
			}()
			if err := s.read(stop); err != nil {
				t.Error(err)
			}
			s.check()
		})
	}
}

// A reader from far back reads from the stream exactly what the stream has.
func TestColdRead(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{MaxBytes: 5000})
	g.fill(1000, 3, 10)
	large := strings.Repeat("L", 200<<10) // 4 MiB end a batch before 200 messages do
	for range 30 {
		g.publish("0", large)
	}
	g.fill(300, 3, 10)
	g.reached()
	subjects := []string{"notify.user.0", "notify.user.2"}
	all := g.stored(0, subjects...)
	for skip := 0; skip < len(all); skip += 97 {
		var after uint64
		if skip > 0 {
			_, _ = fmt.Sscan(all[skip-1], &after)
		}
		r := g.reader(after, streams.Source{Subject: subjects[0]}, streams.Source{Subject: subjects[1]}, streams.Source{Subject: "notify.user.nobody"})
		if got := frames(g.read(r)); !slices.Equal(got, all[skip:]) {
			t.Errorf("behind %d: %d messages, the stream has %d", after, len(got), len(all)-skip)
		}
	}
}

// Servers die and connections break: every reader goes on where it was.
func TestReadersSurvive(t *testing.T) {
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	for name, c := range map[string]struct {
		times   int
		disturb func(p *streamstest.Process, proxy *streamstest.Proxy)
	}{
		"a server that is killed": {3, func(p *streamstest.Process, _ *streamstest.Proxy) {
			p.Kill()
			p.Restart()
		}},
		"a connection that is cut": {10, func(_ *streamstest.Process, proxy *streamstest.Proxy) {
			proxy.Cut()
			proxy.Restore()
		}},
		"a connection that stalls": {1, func(_ *streamstest.Process, proxy *streamstest.Proxy) {
			proxy.Stall()
			time.Sleep(2500 * time.Millisecond) // longer than the consumer's heartbeats are missed
			proxy.Restore()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := streamstest.RunProcess(t)
			proxy := streamstest.RunProxy(t, p.URL())
			g := run(t, streamstest.Connect(t, proxy.URL(), quiet), streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{MaxBytes: 20_000})
			direct := open(t, p.Connect(t, quiet), streams.Config{})
			s := newStorm(g, direct.pub, 7)
			epoch := g.tail.Epoch()
			for range 6 {
				if err := s.attach(s.mark(), 0); err != nil {
					t.Fatal(err)
				}
			}
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				for range c.times {
					published := make(chan struct{})
					go func() {
						defer close(published)
						if err := s.publish(1500/c.times, 300, false); err != nil {
							t.Error(err)
						}
					}()
					c.disturb(p, proxy)
					<-published
				}
			}()
			if err := s.read(stop); err != nil {
				t.Error(err)
			}
			s.check()
			if now := g.tail.Epoch(); now != epoch {
				t.Errorf("epoch %s became %s", epoch, now)
			}
		})
	}
}

// A reader far back catches up while the end of memory runs from it.
func TestCatchUpWhilePublishing(t *testing.T) {
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{MaxMsgsPerSubject: -1}, streams.TailConfig{MaxBytes: 100_000})
	g.fill(2000, 5, 100)
	g.reached()
	stop := make(chan struct{})
	var publishers sync.WaitGroup
	for range 8 {
		publishers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := g.pub.User(t.Context(), "0", streams.Notification{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	requests, err := g.nc.SubscribeSync("$JS.API.DIRECT.GET.>")
	if err != nil {
		t.Fatal(err)
	}
	const readers = 10
	for range readers {
		r := g.userReader(0, "nobody")
		if entries, err := r.Read(testContext(t, patience), nil, 10); err != nil || len(entries) > 0 {
			t.Errorf("%d messages, %v", len(entries), err)
		}
	}
	close(stop)
	publishers.Wait()
	if n, _, _ := requests.Pending(); n < readers || n > 3*readers {
		t.Errorf("%d requests for %d readers that have nothing to read", n, readers)
	}
}

// Where the stream cannot vouch that there is no more, what was read is not lost, and not read twice.
func TestColdReadWithoutProof(t *testing.T) {
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{})
	g.fill(20, 1, 100)
	g.tail = streams.NewTail(g.stream, streams.TailConfig{Encode: encode, MaxBytes: 500})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.tail.Run(ctx) }()
	<-g.tail.Ready()
	r := g.userReader(0, "0")
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	got, err := r.Read(testContext(t, 200*time.Millisecond), nil, 1000)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody could vouch for the end, but %v", err)
	}
	start(t, g.tail.Run)
	got = append(got, g.read(r)...)
	if got, want := frames(got), g.stored(0, "notify.user.0"); !slices.Equal(got, want) {
		t.Errorf("read %q, the stream has %q", got, want)
	}
}
