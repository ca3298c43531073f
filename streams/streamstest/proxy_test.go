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

// echo is a server that returns what it gets.
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
	_ = conn.(*net.TCPConn).CloseWrite() // the end of one direction is passed on, and comes back
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
		t.Error("a cut proxy accepts")
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
		defer func() { // what was sent meanwhile was kept
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
				t.Errorf("after the stall: %v", err)
			}
		}()
	}
	p.Restore()
}

func TestProxySlowAndLate(t *testing.T) {
	p := RunProxy(t, echo(t))
	conn := dial(t, p)
	p.Slow(100_000)
	if took, err := roundTrip(conn, 20_000, 10*time.Second); err != nil || took < 150*time.Millisecond {
		t.Errorf("20 kB at 100 kB/s: %s, %v", took, err)
	}
	p.Slow(0)
	p.Latency(50 * time.Millisecond)
	if took, err := roundTrip(conn, 1, 10*time.Second); err != nil || took < 100*time.Millisecond {
		t.Errorf("there and back with 50 ms each: %s, %v", took, err)
	}
	// 2 MB are over a hundred reads of the proxy; one after another they would take 12 s.
	if took, err := roundTrip(conn, 2<<20, 20*time.Second); err != nil || took > 6*time.Second {
		t.Errorf("2 MB late: %s, %v", took, err)
	}
	p.Latency(time.Hour)
	if _, err := roundTrip(conn, 10, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an hour late: %v", err)
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
		t.Errorf("the client knows a way around the proxy: %v", found)
	}
	s.Stop()
	if conn, err := net.Dial("tcp", p.Addr()); err == nil { // else reset already
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a byte from a server that is down")
		}
	}
	s.Restart()
	Eventually(t, 10*time.Second, func() error { return nc.FlushTimeout(time.Second) })
}
