package delivery_test

import (
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Connections that ask for nothing take files as well: past the limits they are closed, and clients from elsewhere are served beside them.
func TestConnectionsThatAskForNothing(t *testing.T) {
	t.Parallel()
	limits := delivery.Limits{ConnectionsPerAddress: 3, UnauthenticatedPerAddress: 2}
	front := httptest.NewUnstartedServer(nil)
	front.Listener = delivery.NewListener(front.Listener, limits, 7, zerolog.Nop())
	n := newTown(t, withLimits(limits), func(c *nodeConfig) { c.delivery.Listener = front.Listener })
	front.Config.Handler = n.gateway.Handler()
	front.Start()
	t.Cleanup(front.Close)
	n.address = front.Listener.Addr().String()
	dial := from(t, here).Dial
	others := from(t, elsewhere).Dial
	// stays says whether a connection is still open in a moment; refused, whether one is not let in.
	stays := func(conn net.Conn, within time.Duration) bool {
		_ = conn.SetReadDeadline(time.Now().Add(within))
		_, err := conn.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	refused := func(dial func(network, address string) (net.Conn, error)) bool {
		conn, err := dial("tcp", n.address)
		if err != nil {
			return true
		}
		defer conn.Close()
		return !stays(conn, patience)
	}
	idle := func(dial func(network, address string) (net.Conn, error)) net.Conn {
		conn, err := dial("tcp", n.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var all []net.Conn
	for range 5 {
		all = append(all, idle(dial))
	}
	if !refused(dial) {
		t.Error("a sixth of an address is let in")
	}
	const metric = `tidings_sockets_refused_total{kind="%s"}`
	n.shows(t, map[string]float64{fmt.Sprintf(metric, "sockets"): 0, fmt.Sprintf(metric, "sockets_per_address"): 1})
	good, _ := n.try(t, elsewhere)
	good.admitted("alice")
	all = append(all, idle(others))
	if !refused(others) {
		t.Error("an eighth of all is let in")
	}
	n.shows(t, map[string]float64{fmt.Sprintf(metric, "sockets"): 1, fmt.Sprintf(metric, "sockets_per_address"): 1})
	for i, conn := range all {
		if !stays(conn, 20*time.Millisecond) {
			t.Errorf("connection %d is closed", i)
		}
		_ = conn.Close()
	}
	streamstest.Eventually(t, 2*patience, func() error {
		conn, err := dial("tcp", n.address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if !stays(conn, 100*time.Millisecond) {
			return errors.New("there is no room yet")
		}
		return nil
	})
}
