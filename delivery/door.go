package delivery

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
)

// door is the listener for clients.
type door struct {
	net.Listener
	most, perAddress int // 0: any number
	proxies          []netip.Prefix
	log              zerolog.Logger // a line a minute

	closed, closedOfOne atomic.Int64 // past most, and past perAddress

	mu   sync.Mutex
	open int
	of   map[netip.Addr]int // no entry where none is open
}

// NewListener closes connections that come to l while as many are open as may be, before they have said a word: a Gateway counts those that
// have asked for something, and others take a file of the process just the same. In all there may be so many, 0 for any number; from
// one address, unless it is a trusted proxy's, as many as limits allow connections, and unauthenticated ones on top for other requests.
func NewListener(l net.Listener, limits Limits, most int, log zerolog.Logger) net.Listener {
	d := &door{Listener: l, most: most, proxies: limits.TrustedProxies, of: map[netip.Addr]int{}}
	d.log = seldom(log)
	if limits.ConnectionsPerAddress > 0 && limits.UnauthenticatedPerAddress > 0 {
		d.perAddress = limits.ConnectionsPerAddress + limits.UnauthenticatedPerAddress
	}
	return d
}

// guest is a connection that counts until it is closed.
type guest struct {
	*net.TCPConn
	door *door
	gone atomic.Bool
}

func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		tcp, ok := conn.(*net.TCPConn)
		if err != nil || !ok {
			return conn, err
		}
		if g := d.enter(tcp); g != nil {
			return g, nil
		}
		d.log.Warn().Stringer("remote", tcp.RemoteAddr()).
			Msg("closed before it said a word: too many are open, from its address or in all; if that is a proxy's, name it with --trusted-proxy")
		_ = tcp.SetLinger(0) // nothing of it stays in the kernel
		_ = tcp.Close()
	}
}

func (d *door) enter(conn *net.TCPConn) *guest {
	remote := conn.RemoteAddr().String()
	proxy, a := trusted(d.proxies, remote), addressOf(remote)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.most > 0 && d.open >= d.most:
		d.closed.Add(1)
		return nil
	case d.perAddress > 0 && d.of[a] >= d.perAddress && !proxy:
		d.closedOfOne.Add(1)
		return nil
	}
	d.open++
	d.of[a]++
	return &guest{TCPConn: conn, door: d}
}

func (g *guest) Close() error {
	if g.gone.CompareAndSwap(false, true) {
		g.door.leave(addressOf(g.RemoteAddr().String()))
	}
	return g.TCPConn.Close()
}

func (d *door) leave(a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.of[a]--; d.of[a] == 0 {
		delete(d.of, a)
	}
}

// watchDoor has what a door closed read at each scrape. Of another listener it knows nothing.
func (m *metrics) watchDoor(l net.Listener) {
	d, is := l.(*door)
	if !is {
		return
	}
	for kind, n := range map[string]*atomic.Int64{"sockets": &d.closed, "sockets_per_address": &d.closedOfOne} {
		promauto.With(m.registry).NewCounterFunc(prometheus.CounterOpts{
			Namespace: metricsPrefix, Name: "sockets_refused_total", ConstLabels: prometheus.Labels{"kind": kind},
			Help: "Connections that were closed before they said a word, since too many were open, by the limit.",
		}, func() float64 { return float64(n.Load()) })
	}
}
