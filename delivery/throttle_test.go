package delivery_test

import (
	"bytes"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// counted is another front of the gateway, which counts what is read of its clients.
func (n *node) counted(t *testing.T) (address string, read *atomic.Int64) {
	t.Helper()
	read = &atomic.Int64{}
	front := httptest.NewUnstartedServer(n.gateway.Handler())
	front.Listener = countingListener{front.Listener, read}
	front.Start()
	t.Cleanup(front.Close)
	return front.Listener.Addr().String(), read
}

type countingListener struct {
	net.Listener
	read *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countingConn{conn, l.read}, err
}

type countingConn struct {
	net.Conn
	read *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// frameOf is one of a client (RFC 6455, 5.2), masked with zeros.
func frameOf(first byte, data string) []byte {
	return append([]byte{first, 0x80 | byte(len(data)), 0, 0, 0, 0}, data...)
}

// A stranger has no use for many pings and pongs, an admitted client may have.
func TestFewPingsBeforeAuth(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{SendRate: 16 << 10}))
	for _, kind := range []int{websocket.PingMessage, websocket.PongMessage} {
		p := n.dial(t)
		some := func(times int) {
			t.Helper()
			for range times {
				if err := p.ws.WriteControl(kind, []byte("x"), time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		expect[wire.Hello](p)
		some(20) // in 10 s
		p.send(wire.Auth{Token: "alice"})
		await[wire.Live](p)
		some(21)
		p.send(wire.Ack{Seq: 1 << 40}) // behind them
		expect[wire.Error](p)
		p = n.dial(t)
		some(21)
		p.closed(wire.CloseBadFrame)
	}
}

// Whatever a client sends as fast as it can, it is read no faster than the limit says; who is beside it is served.
func TestFloodsAreHeldUp(t *testing.T) {
	t.Parallel()
	const rate, burst, lasts = 8 << 10, 32 << 10, time.Second // who has just been admitted has no larger burst
	n := newTown(t, withLimits(delivery.Limits{SendRate: rate}))
	for name, c := range map[string]struct {
		begin, flood []byte
		costs        int // bytes, of one
	}{
		"text":            {nil, frameOf(0x81, `{"type":"pong"}`), 149},
		"unknown text":    {nil, frameOf(0x81, `{"type":"x"}`), 146},
		"pings":           {nil, frameOf(0x89, ""), 134},
		"long pings":      {nil, frameOf(0x89, strings.Repeat("x", 125)), 259},
		"pongs":           {nil, frameOf(0x8a, ""), 134},
		"empty fragments": {frameOf(0x01, ""), frameOf(0x00, ""), 6},
		"before a token":  {frameOf(0x01, ""), frameOf(0x00, ""), 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, read := n.counted(t)
			ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+address+wire.Path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			p := &peer{t: t, ws: ws}
			if name != "before a token" {
				p.admitted("flood " + name)
			}
			conn, began, before := ws.NetConn(), time.Now(), read.Load()
			go func() { // pongs
				junk := make([]byte, 64<<10)
				for {
					if _, err := conn.Read(junk); err != nil {
						return
					}
				}
			}()
			_ = conn.SetWriteDeadline(began.Add(lasts))
			many := bytes.Repeat(c.flood, 1000)
			_, err = conn.Write(c.begin)
			for err == nil {
				_, err = conn.Write(many)
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("not held up, but ended: %v", err)
			}
			got, took := read.Load()-before, time.Since(began)
			// What is in gorilla's buffer comes before its frames are counted.
			most := (burst+int64(float64(rate)*took.Seconds()))*int64(len(c.flood))/int64(c.costs) + 2<<10
			if got > most || got < 1000 {
				t.Errorf("in %s %d bytes were read, want %d at most", took, got, most)
			}
		})
	}
	t.Run("beside them", func(t *testing.T) {
		t.Parallel()
		good, _ := n.live(t, "good")
		for end := time.Now().Add(lasts); time.Now().Before(end); {
			seq := n.to(t, "good", "x")
			expect[wire.Msg](good)
			good.send(wire.Ack{Seq: seq})
		}
	})
}

// A client that acknowledges more than the limit lets be read at once is heard to the end, and stays.
func TestABurstOfAcknowledgementsIsHeardToTheEnd(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{SendRate: 8 << 10}), func(c *nodeConfig) { c.delivery.Ping = 5 * time.Second })
	p, _ := n.live(t, "alice")
	first, last := n.to(t, "alice", "x"), n.to(t, "alice", "y")
	await[wire.Msg](p)
	await[wire.Msg](p)
	for range 350 { // it has just been admitted, and may send some 200 at once
		p.send(wire.Ack{Seq: first})
	}
	p.send(wire.Ack{Seq: last})
	n.committed(t, cursorOf("alice"), last, 0)
	n.to(t, "alice", "z")
	await[wire.Msg](p)
}

// An operator's word ends a client that waits for its turn to be read at once.
func TestAFloodIsDisconnectedAtOnce(t *testing.T) {
	t.Parallel()
	n := newTown(t, withLimits(delivery.Limits{SendRate: 4 << 10}))
	p, _ := n.live(t, "alice")
	conn := p.ws.NetConn()
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	flooded := make(chan error, 1)
	go func() {
		flood := bytes.Repeat(frameOf(0x89, ""), 1000)
		for {
			if _, err := conn.Write(flood); err != nil {
				flooded <- err
				return
			}
		}
	}()
	time.Sleep(200 * time.Millisecond) // to be in the midst of it; it holds at any time
	if closed, _, err := delivery.Disconnect(t.Context(), n.nc, "alice", nil, "flood"); err != nil || closed != 1 {
		t.Fatal(closed, err)
	}
	streamstest.Eventually(t, patience, func() error {
		if n.gateway.Connections("alice") > 0 {
			return errors.New("it is still there")
		}
		return nil
	})
	if err := <-flooded; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the socket stays open")
	}
}
