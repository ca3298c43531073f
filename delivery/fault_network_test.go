package delivery_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// seeded returns what is drawn from the seed in TIDINGS_SEED, or from the given one, and logs it.
func seeded(t *testing.T, seed uint64) *rand.Rand {
	t.Helper()
	if text := os.Getenv("TIDINGS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TIDINGS_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// networkFaults are what a network does to the connections through it, until it is restored.
var networkFaults = []struct {
	name  string
	begin func(p *streamstest.Proxy, rng *rand.Rand)
	end   func(p *streamstest.Proxy)
}{
	{"stall", func(p *streamstest.Proxy, _ *rand.Rand) { p.Stall() }, nil},
	{"cut", func(p *streamstest.Proxy, _ *rand.Rand) { p.Cut() }, nil},
	{"cut for a moment", func(p *streamstest.Proxy, _ *rand.Rand) { p.Cut(); p.Restore() }, nil},
	{"blackhole", func(p *streamstest.Proxy, _ *rand.Rand) { p.Stall() }, func(p *streamstest.Proxy) { p.Cut() }}, // nothing of it ever arrives
	{"slow", func(p *streamstest.Proxy, rng *rand.Rand) { p.Slow(5_000 + rng.IntN(50_000)) }, nil},
	{"latency", func(p *streamstest.Proxy, rng *rand.Rand) {
		p.Latency(time.Duration(1+rng.IntN(200)) * time.Millisecond)
	}, nil},
	{"nothing", func(*streamstest.Proxy, *rand.Rand) {}, nil},
}

// Networks between clients and gateways, and between gateways and NATS, fail in any order and at once: in the end everybody has
// had everything, and was never told otherwise.
func TestNetworksFailInEveryWay(t *testing.T) {
	t.Parallel()
	for _, seed := range streamstest.Either([]uint64{1}, []uint64{2, 3}) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := seeded(t, seed)
			server := streamstest.Run(t)
			s := newSiege(t, server.URL())
			var proxies []*streamstest.Proxy
			for range 2 {
				inner := streamstest.RunProxy(t, server.URL())
				n := s.gateway(t, inner.URL(), func(c *nodeConfig) {
					c.delivery.Ping, c.delivery.PongWithin, c.delivery.WriteWithin = calmPing, 2*time.Second, 2*time.Second
					c.tail.MaxBytes = 100 << 10
					c.stream.MaxMsgsPerSubject = -1
				})
				outer := streamstest.RunProxy(t, n.address)
				s.urls[len(s.urls)-1] = "ws://" + outer.Addr()
				proxies = append(proxies, inner, outer)
			}
			users := names("user-", 5)
			for _, user := range users {
				s.client(t, verify.ClientConfig{User: user})
				s.client(t, verify.ClientConfig{Name: user + " without memory", User: user, Forget: true})
				s.client(t, verify.ClientConfig{Name: user + "'s phone", User: user, Device: "phone", Ack: verify.AckSometimes})
			}
			s.live(t)
			s.publishing(t, 3, 20*time.Millisecond, users, []string{"all"})
			for end := time.Now().Add(streamstest.Either(3*time.Second, time.Minute)); time.Now().Before(end); {
				proxy, other := proxies[rng.IntN(len(proxies))], proxies[rng.IntN(len(proxies))]
				for _, p := range []*streamstest.Proxy{proxy, other} {
					fault := networkFaults[rng.IntN(len(networkFaults))]
					t.Log(fault.name)
					fault.begin(p, rng)
					time.Sleep(time.Duration(rng.IntN(int(streamstest.Either(500*time.Millisecond, 4*time.Second)))))
					if fault.end != nil {
						fault.end(p)
					}
				}
				proxy.Restore()
				other.Restore()
			}
			s.live(t)
			s.calm(t)
			for _, g := range s.guests {
				g.leave()
			}
			s.nothingBeyond(t)
		})
	}
}

// nothingBeyond waits until no position lies behind the stream's end, and everybody's connections are gone.
func (s *siege) nothingBeyond(t *testing.T) {
	t.Helper()
	streamstest.Eventually(t, recovery, func() error {
		floors, st, err := s.cursors(t.Context())
		if err != nil {
			return err
		}
		for cursor, floor := range floors {
			if floor > st.Last {
				return fmt.Errorf("%s is at %d of a stream that ends at %d", cursor, floor, st.Last)
			}
			user, _, _ := strings.Cut(cursor, "@")
			for _, n := range s.nodes {
				if have := n.gateway.Connections(user); have > 0 {
					return fmt.Errorf("%s still has %d connections", user, have)
				}
			}
		}
		return nil
	})
}

// A replay from further back than memory reaches its end over a link between gateway and NATS on which a batch of it takes longer than
// a client waits for a ping.
func TestAReplayOverASlowLinkToNATS(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	s := newSiege(t, server.URL())
	link := streamstest.RunProxy(t, server.URL())
	n := s.gateway(t, link.URL(), func(c *nodeConfig) { // which pings four times a second
		c.tail.MaxBytes = 20 << 10
		c.auth.Timeout = patience
	})
	client := s.client(t, verify.ClientConfig{User: "alice"})
	s.client(t, verify.ClientConfig{Name: "without memory", User: "alice", Device: "tv", Forget: true})
	s.live(t)
	p := s.publisher(t, "p")
	p.Pad = 10 << 10
	post(t, p, "alice")
	streamstest.Eventually(t, recovery, s.log.Missing)
	for _, g := range s.guests {
		g.leave()
	}
	n.connected(t, "alice", 0)
	messages := streamstest.Either(60, 600)
	for range messages {
		post(t, p, "alice")
	}
	link.Slow(300_000) // bytes per second
	began := time.Now()
	for _, g := range s.guests {
		g.run(t)
	}
	s.live(t)
	streamstest.Eventually(t, recovery, s.log.Missing)
	t.Logf("%d messages for each of two after %s", messages, time.Since(began))
	if _, at := client.Position(); at < uint64(messages) {
		t.Errorf("at %d", at)
	}
	link.Restore()
	s.calm(t)
}
