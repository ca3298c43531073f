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

// reset closes both sides immediately with a TCP RST. Data in transit is lost.
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

// dial connects to the target and reports whether that worked. If not, run resets the client's connection.
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
	defer l.reset() // does nothing after an ordinary end
	if !l.dial() {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.move(l.server, l.client) })
	both.Go(func() { l.move(l.client, l.server) })
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended { // an ordinary end: both sides have closed their direction
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

// move copies data in one direction. Reading and writing run concurrently, with up to 256 KiB between them, so that
// latency does not limit the rate.
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
	_ = dst.CloseWrite() // the other direction may continue
}

func (l *link) write(dst *net.TCPConn, c chunk) bool {
	for len(c.data) > 0 {
		f, changed, ok := l.pass()
		if !ok {
			return false
		}
		if due := time.Until(c.at.Add(f.latency)); due > 0 {
			l.sleep(due, changed)
			continue // the faults may have changed
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

// pass waits while the proxy stalls. It returns the current faults, a channel that is closed when they change, and
// false if the link has ended.
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

// sleep waits for d. It returns early if the proxy's faults change or the link ends.
func (l *link) sleep(d time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-l.done:
	}
}
