package streamstest

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Proxy forwards TCP connections to a target and can simulate network faults. Its faults affect open and new
// connections until Restore.
type Proxy struct {
	tb     testing.TB
	target string
	addr   string
	wg     sync.WaitGroup // accept loop and links

	mu       sync.Mutex
	listener net.Listener // nil while cut
	links    map[*link]struct{}
	faults   faults
	changed  chan struct{} // closed and replaced when faults change
	closed   bool
}

type faults struct {
	stalled bool
	rate    int // bytes per second, each direction of each connection; 0: no limit
	latency time.Duration
}

// RunProxy starts a proxy on a random port of the loopback interface. target is host:port or a nats:// URL. It need not
// accept connections yet.
func RunProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p := &Proxy{
		tb:      tb,
		target:  strings.TrimPrefix(target, "nats://"),
		links:   map[*link]struct{}{},
		changed: make(chan struct{}),
	}
	p.mu.Lock()
	p.addr = loopback(FreePort(tb))
	p.listen(p.addr)
	p.mu.Unlock()
	tb.Cleanup(p.Close)
	return p
}

// Addr returns the proxy's host:port, which never changes.
func (p *Proxy) Addr() string { return p.addr }

// URL returns Addr as a URL for NATS clients.
func (p *Proxy) URL() string { return "nats://" + p.addr }

// Cut resets all connections and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		l.reset()
	}
}

// Stall keeps all connections open and accepts new ones, but forwards no data. Data sent in the meantime arrives after
// Restore, as when a network cable is plugged in again.
func (p *Proxy) Stall() { p.change(func(f *faults) { f.stalled = true }) }

// Slow limits the rate of each direction of each connection; 0 removes the limit.
func (p *Proxy) Slow(bytesPerSecond int) { p.change(func(f *faults) { f.rate = bytesPerSecond }) }

// Latency delays all data by d in each direction, without limiting how much is in transit.
func (p *Proxy) Latency(d time.Duration) { p.change(func(f *faults) { f.latency = d }) }

// Restore ends all faults. Connections that were cut stay closed.
func (p *Proxy) Restore() {
	p.tb.Helper()
	p.change(func(f *faults) { *f = faults{} })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil && !p.closed {
		p.listen(p.addr)
	}
}

// Close resets all connections and waits for all goroutines of the proxy. It is also called when the test ends.
func (p *Proxy) Close() {
	p.Cut()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) change(f func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) state() (faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

// listen is called with mu held.
func (p *Proxy) listen(addr string) {
	p.tb.Helper()
	var l net.Listener
	err := bind(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		p.tb.Fatalf("proxy: %v", err)
	}
	p.listener = l
	p.wg.Go(func() { p.accept(l) })
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // out of file descriptors, or reset before it was accepted
			continue
		}
		l := &link{proxy: p, client: conn.(*net.TCPConn), done: make(chan struct{})}
		p.mu.Lock()
		if p.listener != listener { // Cut was called in the meantime
			l.reset()
			p.mu.Unlock()
			continue
		}
		p.links[l] = struct{}{}
		p.wg.Go(func() {
			l.run()
			p.mu.Lock()
			delete(p.links, l)
			p.mu.Unlock()
		})
		p.mu.Unlock()
	}
}
