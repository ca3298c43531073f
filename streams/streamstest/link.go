package streamstest

import (
	"net"
	"sync"
	"time"
)

// link is one connection through a Proxy.
type link struct {
	proxy  *Proxy
	client *net.TCPConn

	mu     sync.Mutex
	server *net.TCPConn // nil before it is dialed
	ended  bool
	done   chan struct{} // closed by reset
}

// reset ends both sides at once with a RST, so that what is on the way is lost.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.done)
	for _, conn := range []*net.TCPConn{l.client, l.server} {
		if conn != nil {
			_ = conn.SetLinger(0)
			conn.Close()
		}
	}
}

// dial reports whether the target is there; a client whose target is not gets a RST.
func (l *link) dial() bool {
	if _, _, ok := l.pass(); !ok {
		return false
	}
	conn, err := net.DialTimeout("tcp", l.proxy.target, 5*time.Second)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		conn.Close()
		return false
	}
	l.server = conn.(*net.TCPConn)
	return true
}

func (l *link) run() {
	defer l.reset() // after both directions have ended, harmless
	if !l.dial() {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.move(l.server, l.client) })
	both.Go(func() { l.move(l.client, l.server) })
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended { // both sides have said all they had to: an ordinary end
		l.ended = true
		close(l.done)
		l.client.Close()
		l.server.Close()
	}
}

type chunk struct {
	data []byte
	at   time.Time // when it was read
}

// move copies one direction. Reading and writing are apart, or latency would limit the rate; between them lies 256 KiB.
func (l *link) move(dst, src *net.TCPConn) {
	chunks := make(chan chunk, 16)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(chunks)
		for {
			if _, _, ok := l.pass(); !ok {
				return
			}
			buf := make([]byte, 16<<10)
			n, err := src.Read(buf)
			if n > 0 {
				select {
				case chunks <- chunk{buf[:n], time.Now()}:
				case <-l.done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for c := range chunks {
		if !l.write(dst, c) {
			l.reset()
		}
	}
	reader.Wait()
	_ = dst.CloseWrite() // the other direction may go on
}

func (l *link) write(dst *net.TCPConn, c chunk) bool {
	for len(c.data) > 0 {
		f, changed, ok := l.pass()
		if !ok {
			return false
		}
		if due := time.Until(c.at.Add(f.latency)); due > 0 {
			l.sleep(due, changed)
			continue // things may have changed
		}
		n := len(c.data)
		if f.rate > 0 {
			n = min(n, max(1, f.rate/20))
		}
		if _, err := dst.Write(c.data[:n]); err != nil {
			return false
		}
		c.data = c.data[n:]
		if f.rate > 0 {
			l.sleep(time.Duration(n)*time.Second/time.Duration(f.rate), changed)
		}
	}
	return true
}

// pass waits while the proxy stalls. It returns what is to be done, and a channel that is closed when that changes; false
// when the link has ended.
func (l *link) pass() (faults, <-chan struct{}, bool) {
	for {
		f, changed := l.proxy.state()
		select {
		case <-l.done:
			return f, changed, false
		default:
		}
		if !f.stalled {
			return f, changed, true
		}
		select {
		case <-changed:
		case <-l.done:
		}
	}
}

// sleep ends early when the proxy's faults change or the link ends.
func (l *link) sleep(d time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-l.done:
	}
}
