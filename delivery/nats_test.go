package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/client"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestConnectionsOutliveNATS(t *testing.T) {
	server := streamstest.RunProcess(t, streamstest.WithSyncAlways())
	n := newNode(t, server.URL())
	n.answer(t, tokenIsUser)
	p, _ := n.live(t, "alice")
	first := n.to(t, "alice", "1")
	if m := expect[wire.Msg](p); m.Seq != first {
		t.Fatalf("msg: %+v", m)
	}
	server.Kill()
	late := n.dial(t) // nobody can say who this is
	expect[wire.Hello](late)
	late.send(wire.Auth{Token: "alice"})
	late.closed(4503)
	server.Restart()
	want := []uint64{n.to(t, "alice", "2"), n.to(t, "alice", "3")}
	got := []uint64{expect[wire.Msg](p).Seq, expect[wire.Msg](p).Seq}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p.send(wire.Ack{Seq: want[1]})
	n.committed(t, cursorOf("alice"), want[1], 0)
}

func TestMessagesInFlightOnALostConnectionAreNotMissed(t *testing.T) {
	server := streamstest.Run(t)
	proxy := streamstest.RunProxy(t, server.URL())
	direct := newBackend(t, server.URL())
	n := newNode(t, proxy.URL())
	direct.answer(t, tokenIsUser)
	p, _ := n.live(t, "alice")
	var want []uint64
	for i := range 10 {
		proxy.Stall() // what is stored now is sent into a connection that is lost
		want = append(want, direct.to(t, "alice", fmt.Sprint(i)))
		proxy.Cut()
		proxy.Restore()
	}
	for _, seq := range want {
		if m := expect[wire.Msg](p); m.Seq != seq {
			t.Fatalf("got %d, want %d", m.Seq, seq)
		}
	}
}

func TestMoreUsersThanNATSAllowsConsumersByDefault(t *testing.T) {
	t.Parallel()
	limit, users := streamstest.Either(100, 1000), streamstest.Either(150, 1500)
	n := newNode(t, streamstest.Run(t, streamstest.WithDefaultMaxConsumers(limit)).URL(), func(c *nodeConfig) {
		c.delivery.Ping = time.Hour // which these clients would not answer, were they slow to come
	})
	n.answer(t, tokenIsUser)
	var g errgroup.Group
	g.SetLimit(64)
	peers := make([]*peer, users)
	var mu sync.Mutex
	for i := range users {
		g.Go(func() error {
			p := n.dial(t)
			p.send(wire.Auth{Token: fmt.Sprintf("user-%d", i)})
			for {
				f, err := p.next()
				if err != nil {
					return fmt.Errorf("user %d: %w", i, err)
				}
				if _, live := f.(wire.Live); live {
					mu.Lock()
					peers[i] = p
					mu.Unlock()
					return nil
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, limit + 1, users - 1} {
		seq := n.to(t, fmt.Sprintf("user-%d", i), "1")
		if m := expect[wire.Msg](peers[i]); m.Seq != seq {
			t.Errorf("user %d got %d, want %d", i, m.Seq, seq)
		}
	}
}

// A slow client must hold up nobody, and gets what it missed when it returns.
func TestAClientThatDoesNotReadHarmsNobody(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) {
		c.delivery.WriteWithin = 3 * time.Second
		c.tail.MaxBytes = 1 << 20
	})
	slow, _ := n.live(t, "alice")
	fast, _ := n.live(t, "bob")
	data := fmt.Sprintf("%q", make([]byte, 8<<10)) // 32 KiB of \x00
	var want []uint64
	for range 400 { // more than sockets and Tail hold together
		want = append(want, n.to(t, "alice", data))
	}
	seq := n.to(t, "bob", "1")
	if m := expect[wire.Msg](fast); m.Seq != seq {
		t.Errorf("bob got %+v", m)
	}
	streamstest.Eventually(t, patience, func() error {
		if have := n.gateway.Connections("alice"); have != 0 {
			return fmt.Errorf("%d connections of alice", have)
		}
		return nil
	})
	_ = slow.ws.Close()
	back, _ := n.enter(t, wire.Auth{Token: "alice"})
	if got, _ := back.replay(); !slices.Equal(got, want) {
		t.Errorf("got %d messages, want %d", len(got), len(want))
	}
}

// The Go client against real gateways, behind a network that cuts: what is published arrives once, in order.
func TestTheGoClientMissesNothing(t *testing.T) {
	n := newTown(t)
	network := streamstest.RunProxy(t, n.address)
	var mu sync.Mutex
	var got []uint64
	c, err := client.New(client.Config{
		URL:        "ws://" + network.Addr(),
		Token:      func(context.Context) (string, error) { return "alice", nil },
		MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		OnMessage: func(_ context.Context, m client.Message) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, m.Seq)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var want []uint64
	for i := range 200 {
		want = append(want, n.to(t, "alice", fmt.Sprint(i)))
		if i%20 == 10 {
			network.Cut()
			network.Restore()
		}
	}
	streamstest.Eventually(t, patience, func() error {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(got, want) {
			return fmt.Errorf("got %d messages, want %d", len(got), len(want))
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	n.committed(t, cursorOf("alice"), want[len(want)-1], 0)
}

// Between the deletion of a stream and the moment when a gateway makes it again, clients and requests are told to try again. Here another
// stream, which takes its subjects, keeps the gateway from that.
func TestADeletedStreamIsUnavailable(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey))
	streamstest.Eventually(t, patience, func() error {
		_ = n.js.DeleteStream(t.Context(), streams.DefaultName)
		_, err := n.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"notify.>"}})
		if err != nil {
			return err
		}
		// The server may have created both at the same time.
		if _, err := n.js.Stream(t.Context(), streams.DefaultName); !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("the gateway has made the stream again: %v", err)
		}
		return nil
	})
	for _, frame := range []wire.Auth{{Token: "alice"}, {Token: "bob", Device: "phone"}} {
		p := n.dial(t)
		expect[wire.Hello](p)
		p.send(frame)
		if goaway := p.closed(wire.CloseUnavailable); goaway.RetryAfter == 0 {
			t.Error("no retry_after")
		}
	}
	n.call(t, http.MethodGet, "/v1/users/alice/notifications", "").is(http.StatusServiceUnavailable)
	n.call(t, http.MethodGet, "/v1/users/alice", "").is(http.StatusServiceUnavailable)
	n.call(t, http.MethodGet, delivery.EventsPath, "", "Authorization", "Bearer alice").is(http.StatusServiceUnavailable)
	n.call(t, http.MethodPost, "/v1/ack", `{"epoch":"x","seq":1}`, "Authorization", "Bearer alice").is(http.StatusServiceUnavailable)
}
