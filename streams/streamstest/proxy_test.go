package streamstest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// echo runs a TCP server that sends back all data, and returns its address.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// roundTrip writes n bytes and reads them back.
func roundTrip(conn net.Conn, n int, timeout time.Duration) (time.Duration, error) {
	began := time.Now()
	_ = conn.SetDeadline(began.Add(timeout))
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _, _ = conn.Write(make([]byte, n)) })
	_, err := io.ReadFull(conn, make([]byte, n))
	return time.Since(began), err
}

func TestProxyPasses(t *testing.T) {
	p := RunProxy(t, echo(t))
	conn := dial(t, p)
	if _, err := roundTrip(conn, 1<<20, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite() // the proxy forwards the end of one direction, and the server then closes the other
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	p.Close()
	p.Close() // no error
}

func TestProxyCut(t *testing.T) {
	p := RunProxy(t, echo(t))
	conn := dial(t, p)
	if _, err := roundTrip(conn, 10, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read from a cut connection: %v, want a reset", err)
	}
	if _, err := net.Dial("tcp", p.Addr()); err == nil {
		t.Error("a cut proxy accepts connections")
	}
	p.Restore()
	if _, err := roundTrip(dial(t, p), 10, 10*time.Second); err != nil {
		t.Errorf("restored: %v", err)
	}
}

func TestProxyStall(t *testing.T) {
	p := RunProxy(t, echo(t))
	before := dial(t, p)
	if _, err := roundTrip(before, 10, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	p.Stall()
	for _, conn := range []net.Conn{before, dial(t, p)} {
		if _, err := roundTrip(conn, 10, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stalled: %v", err)
		}
		defer func() { // data sent during the stall arrives later
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
				t.Errorf("after the stall: %v", err)
			}
		}()
	}
	p.Restore()
}

func TestProxyRateAndLatency(t *testing.T) {
	p := RunProxy(t, echo(t))
	conn := dial(t, p)
	p.Slow(100_000)
	if took, err := roundTrip(conn, 20_000, 10*time.Second); err != nil || took < 150*time.Millisecond {
		t.Errorf("20 kB at 100 kB/s: %s, %v", took, err)
	}
	p.Slow(0)
	p.Latency(50 * time.Millisecond)
	if took, err := roundTrip(conn, 1, 10*time.Second); err != nil || took < 100*time.Millisecond {
		t.Errorf("round trip with a latency of 50 ms in each direction: %s, %v", took, err)
	}
	// The proxy reads 2 MB in over a hundred parts. If each waited for the one before, it would take 12 s.
	if took, err := roundTrip(conn, 2<<20, 20*time.Second); err != nil || took > 6*time.Second {
		t.Errorf("2 MB with latency: %s, %v", took, err)
	}
	p.Latency(time.Hour)
	if _, err := roundTrip(conn, 10, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with a latency of an hour: %v", err)
	}
	p.Restore()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
		t.Errorf("restored: %v", err)
	}
}

func TestProxyWithoutTarget(t *testing.T) {
	s := Run(t)
	p := RunProxy(t, s.URL())
	nc := Connect(t, p.URL())
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if found := nc.DiscoveredServers(); len(found) > 0 {
		t.Errorf("the client knows addresses that bypass the proxy: %v", found)
	}
	s.Stop()
	if conn, err := net.Dial("tcp", p.Addr()); err == nil { // otherwise it was reset already
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("received data from a stopped server")
		}
	}
	s.Restart()
	Eventually(t, 10*time.Second, func() error { return nc.FlushTimeout(time.Second) })
}
