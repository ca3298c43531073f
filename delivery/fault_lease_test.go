package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// A disconnect that comes at any moment of an authentication ends it: nobody stays connected whose backend had said that they
// must go after it said who they are.
func TestADisconnectRacesAuthentications(t *testing.T) {
	t.Parallel()
	rounds := streamstest.Either(5, 200)
	server := streamstest.Run(t)
	a, b := newNode(t, server.URL()), newNode(t, server.URL())
	asked := make(chan struct{}, 2)
	a.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		asked <- struct{}{}
		return auth.Identity{User: r.Token}, nil
	}))
	rng := seeded(t, 1)
	for round := range rounds {
		user := fmt.Sprint("user-", round)
		peers := []*peer{a.dial(t), b.dial(t)}
		for _, p := range peers {
			expect[wire.Hello](p)
			p.send(wire.Auth{Token: user})
		}
		<-asked // both have been asked about: what the backend says now is newer than its answer
		<-asked
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		// On a slow machine an answer may come after the silence that ends the gathering; the connections tell.
		if _, _, err := delivery.Disconnect(t.Context(), a.nc, user, nil, "logout"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, p := range peers {
			p.closed(4410)
			_ = p.ws.Close()
		}
		if left := a.gateway.Connections(user) + b.gateway.Connections(user); left > 0 {
			t.Fatalf("round %d: %d connections are left", round, left)
		}
	}
}

// record reads frames until the connection ends, and returns the close code.
func (p *peer) record() (frames []wire.Frame, code int) {
	p.t.Helper()
	for {
		f, err := p.next()
		if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
			return frames, closed.Code
		}
		if err != nil {
			return frames, websocket.CloseAbnormalClosure
		}
		frames = append(frames, f)
	}
}

// A lease ends for everybody when it ends, also while much is sent, and also while NATS is away: nothing is delivered that was
// stored after it.
func TestNoFrameIsWrittenAfterALease(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	for name, away := range map[string]bool{"while much is sent": false, "while NATS is away": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := streamstest.Run(t)
			proxy := streamstest.RunProxy(t, server.URL())
			n := newNode(t, proxy.URL(), func(c *nodeConfig) {
				c.delivery.Ping = 50 * time.Millisecond
				c.stream.MaxMsgsPerSubject = -1 // however far the gateway lags
			})
			direct := newBackend(t, server.URL())
			direct.leases(t, lease, "all")

			ctx, cancel := context.WithCancel(t.Context())
			var publishers sync.WaitGroup
			defer publishers.Wait()
			defer cancel()
			for i := range 2 {
				publishers.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						_, _ = direct.publish.User(ctx, "alice", streams.Notification{Data: fmt.Appendf(nil, "%d-%d", i, n)})
					}
				})
			}
			p := n.dial(t)
			expect[wire.Hello](p)
			p.send(wire.Auth{Token: "alice"})
			expect[wire.Ready](p) // the lease began before
			end := time.Now().Add(lease)
			if away {
				await[wire.Msg](p)
				proxy.Cut()
			}
			frames, code := p.record()
			if code != 4501 {
				t.Errorf("closed with %d, want 4501", code)
			}
			warned := false
			for _, f := range frames {
				switch f := f.(type) {
				case wire.Msg:
					if f.Time.After(end) {
						t.Errorf("%d was stored at %s, and delivered after the lease's end at %s", f.Seq, f.Time, end)
					}
				case wire.Expiring:
					warned = true
				}
			}
			if !warned {
				t.Error("nobody said that the lease would end")
			}
			n.connected(t, "alice", 0)
		})
	}
}

// What a renewal grants is read from where the connection is; what it takes away is not read any more.
func TestGrantsChangeOnRenewal(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL())
	n.leases(t, time.Minute)
	n.toTopic(t, "b", `"before the connection"`)
	p, _ := n.live(t, "alice+a")
	want := []uint64{n.toTopic(t, "a", "1")}
	n.toTopic(t, "b", `"not granted yet"`)
	want = append(want, n.toTopic(t, "a", "2"))
	got := []uint64{expect[wire.Msg](p).Seq, expect[wire.Msg](p).Seq}

	p.send(wire.Renew{Token: "alice+a+b"})
	await[wire.Renewed](p)
	want = append(want, n.toTopic(t, "b", "3"), n.toTopic(t, "a", "4"))
	got = append(got, expect[wire.Msg](p).Seq, expect[wire.Msg](p).Seq)

	p.send(wire.Renew{Token: "alice+b"})
	await[wire.Renewed](p)
	n.toTopic(t, "a", `"taken away"`)
	want = append(want, n.toTopic(t, "b", "5"))
	got = append(got, expect[wire.Msg](p).Seq)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
