package delivery_test

import (
	"context"
	"testing"
	"time"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestDisconnectReachesEveryGateway(t *testing.T) {
	t.Parallel()
	server := streamstest.Run(t)
	a, b := newNode(t, server.URL()), newNode(t, server.URL())
	a.answer(t, tokenIsUser)
	p1, _ := a.live(t, "alice")
	p2, _ := b.live(t, "alice")
	other, _ := b.live(t, "bob")
	phone, _ := b.enter(t, wire.Auth{Token: "alice", Device: "phone"})
	expect[wire.Live](phone)

	closed, gateways, err := delivery.Disconnect(t.Context(), a.nc, "alice", ptr("phone"), "lost")
	if err != nil || closed != 1 || gateways != 2 {
		t.Errorf("closed %d on %d gateways: %v", closed, gateways, err)
	}
	phone.closed(4410)
	closed, gateways, err = delivery.Disconnect(t.Context(), a.nc, "alice", nil, "logout")
	if err != nil || closed != 2 || gateways != 2 {
		t.Errorf("closed %d on %d gateways: %v", closed, gateways, err)
	}
	p1.closed(4410)
	p2.closed(4410)
	a.to(t, "bob", `"still here"`)
	expect[wire.Msg](other)
	if closed, _, err = delivery.Disconnect(t.Context(), a.nc, "nobody", nil, ""); err != nil || closed != 0 {
		t.Errorf("closed %d: %v", closed, err)
	}
}

func TestDisconnectCountsForAnAuthenticationInFlight(t *testing.T) {
	n := newNode(t, streamstest.Run(t).URL())
	asked, answer := make(chan struct{}), make(chan struct{})
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		asked <- struct{}{}
		<-answer
		return auth.Identity{User: r.Token}, nil
	}))
	p := n.dial(t)
	expect[wire.Hello](p)
	p.send(wire.Auth{Token: "alice"})
	<-asked
	if _, gateways, err := delivery.Disconnect(t.Context(), n.nc, "alice", nil, ""); err != nil || gateways != 1 {
		t.Fatalf("%d gateways answered: %v", gateways, err)
	}
	close(answer)
	p.closed(4410)
	if have := n.gateway.Connections("alice"); have != 0 {
		t.Errorf("%d connections left", have)
	}
}

func TestDrainTellsClientsWhenToComeAgain(t *testing.T) {
	n := newTown(t, func(c *nodeConfig) { c.cursors.Interval = time.Hour })
	var peers []*peer
	for range 20 {
		p, _ := n.live(t, "alice")
		peers = append(peers, p)
	}
	first := n.to(t, "alice", "1")
	peers[0].send(wire.Ack{Seq: await[wire.Msg](peers[0]).Seq})
	n.committed(t, cursorOf("alice"), first, 0)
	seq := n.to(t, "alice", "2") // not to be committed for an hour, but at the end
	peers[0].send(wire.Ack{Seq: await[wire.Msg](peers[0]).Seq})
	peers[0].send(wire.Ack{Seq: seq + 1})
	await[wire.Error](peers[0]) // so that one has been read too
	stopped := make(chan struct{})
	go func() { n.stop(); close(stopped) }()
	times := map[int64]bool{}
	for _, p := range peers {
		g := p.closed(4512)
		if g.RetryAfter <= 0 || g.RetryAfter > 2000 {
			t.Errorf("goaway: %+v", g)
		}
		times[g.RetryAfter] = true
		_ = p.ws.Close()
	}
	if len(times) < 10 {
		t.Errorf("all come back at the same times: %v", times)
	}
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	n.committed(t, cursorOf("alice"), seq, 0)
}

func TestServicesCanBeDiscovered(t *testing.T) {
	n := newTown(t)
	streamstest.Eventually(t, patience, func() error {
		_, err := n.nc.RequestWithContext(t.Context(), "$SRV.PING.tidings-gateway", nil)
		return err
	})
}
