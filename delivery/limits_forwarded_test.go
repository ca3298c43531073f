package delivery_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Who is no trusted proxy cannot say to be somebody else. Of those behind one, each has its own limits, and the backend is told who it is.
func TestForwardedAddresses(t *testing.T) {
	t.Parallel()
	log := &journal{}
	n := newNode(t, streamstest.Run(t).URL(), withLimits(delivery.Limits{
		ConnectionsPerAddress: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix(elsewhere + "/32")},
	}), func(c *nodeConfig) { c.log = log })
	told := make(chan string, 1)
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		told <- r.RemoteAddr
		return auth.Identity{User: r.Token}, nil
	}))
	p, _ := n.try(t, here, "X-Forwarded-For", "203.0.113.1")
	p.admitted("alice")
	if remote := <-told; !strings.HasPrefix(remote, here+":") {
		t.Errorf("a client that spoofs is %s to the backend", remote)
	}
	if _, status := n.try(t, here, "X-Forwarded-For", "203.0.113.2"); status != http.StatusTooManyRequests {
		t.Errorf("a client that spoofs another address is answered %d", status)
	}
	for _, client := range []string{"203.0.113.1", "203.0.113.2"} {
		p, _ := n.try(t, elsewhere, "X-Forwarded-For", "192.0.2.1, "+client)
		p.admitted("alice")
		if remote := <-told; remote != client {
			t.Errorf("%s is %s to the backend", client, remote)
		}
		if _, status := n.try(t, elsewhere, "X-Forwarded-For", "192.0.2.2, "+client); status != http.StatusTooManyRequests {
			t.Errorf("a second of %s is answered %d", client, status)
		}
	}
	// Somebody of this machine passes requests on, and may be a proxy that was forgotten.
	if hints := log.saying("name it with --trusted-proxy"); len(hints) != 1 || !strings.Contains(hints[0], here) {
		t.Errorf("hints: %q", hints)
	}
}

// A page of another origin is told so before it counts for anything.
func TestOriginsComeBeforeLimits(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{ConnectRate: 0.01}))
	for range 3 {
		if status := n.get(t, here, wire.Path, "", "Origin", "https://evil.example"); status != http.StatusForbidden {
			t.Errorf("answered %d", status)
		}
	}
	p, _ := n.try(t, here)
	p.admitted("alice")
}
