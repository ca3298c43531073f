package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// crowdPath is the path at which ServeAttackers reports its counts.
const crowdPath = "/crowd"

// Attackers connect at a fixed rate, no matter whether the server refuses their connections or keeps them open.
const (
	attackersPerSecond = 2000             // first connections per second
	reconnectAfter     = 12 * time.Second // each reconnects after this time; a gateway closes a connection without auth after 10 s
	attackersDial      = 5 * time.Second
	attackersWrite     = 5 * time.Second
	attackersHosts     = 250 // number of source addresses, from 127.0.1.1 on
)

// crowd counts what all attackers do.
type crowd struct {
	target string
	dialed, connected, upgraded,
	refused, held, maxHeld atomic.Int64
}

// crowdCounts is the report of ServeAttackers.
type crowdCounts struct {
	Dialed    int64 `json:"dialed"`
	Connected int64 `json:"connected"`
	Upgraded  int64 `json:"upgraded"` // connections that were upgraded to WebSocket
	Refused   int64 `json:"refused"`  // connections that were refused with an HTTP response
	Held      int64 `json:"held"`     // connections that are open
	MaxHeld   int64 `json:"max_held"` // maximum number of connections open at once
}

// ServeAttackers makes n hostile connections to a server on this machine until ctx is done. None of them has a token.
// They are silent or slow, flood the server, or send malformed data.
func ServeAttackers(ctx context.Context, listener net.Listener, target string, n int) error {
	if address, err := net.ResolveTCPAddr("tcp", target); err != nil || !address.IP.IsLoopback() {
		return errors.Join(err, fmt.Errorf("attack %s: only servers on the loopback interface may be attacked", target))
	}
	c := &crowd{target: target}
	mux := http.NewServeMux()
	mux.HandleFunc(crowdPath, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(c.report()) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for wait := time.Second * time.Duration(i) / attackersPerSecond; pause(ctx, wait) == nil; {
				began := time.Now()
				c.attack(ctx, i)
				wait = reconnectAfter - time.Since(began)
			}
		})
	}
	defer all.Wait()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (c *crowd) report() crowdCounts {
	return crowdCounts{
		c.dialed.Load(), c.connected.Load(), c.upgraded.Load(), c.refused.Load(), c.held.Load(), c.maxHeld.Load(),
	}
}

// attack makes one connection and sends the data of its kind, until the server closes it or it is time to reconnect.
func (c *crowd) attack(ctx context.Context, i int) {
	ctx, cancel := context.WithTimeout(ctx, reconnectAfter)
	defer cancel()
	kind := attacks[i%len(attacks)]
	dialer := net.Dialer{Timeout: attackersDial, KeepAlive: -1, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%attackersHosts))}}
	conn, err := dialer.DialContext(ctx, "tcp", c.target)
	c.dialed.Add(1)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c.connected.Add(1)
	defer c.held.Add(-1)
	for held := c.held.Add(1); ; {
		if before := c.maxHeld.Load(); held <= before || c.maxHeld.CompareAndSwap(before, held) {
			break
		}
	}
	answered, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		c.read(conn, answered)
	}()
	defer func() {
		_ = conn.Close()
		<-ended
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	for step := 0; ; step++ {
		data := kind.send(step)
		if data == nil {
			<-ended
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(attackersWrite))
		if _, err := conn.Write(data); err != nil {
			return
		}
		if step == 0 && kind.upgrades {
			select {
			case <-answered:
			case <-ended:
				return
			}
		}
		next.Reset(kind.every)
		select {
		case <-next.C:
		case <-ended:
			return
		}
	}
}

// read reads until the connection ends. It closes answered after the first bytes of the HTTP response.
func (c *crowd) read(conn net.Conn, answered chan<- struct{}) {
	first := make([]byte, len("HTTP/1.1 101"))
	if _, err := io.ReadFull(conn, first); err != nil {
		return
	}
	if strings.HasSuffix(string(first), "101") {
		c.upgraded.Add(1)
	} else {
		c.refused.Add(1)
	}
	close(answered)
	_, _ = io.Copy(io.Discard, conn)
}

// attacks are the kinds of attackers. There is an equal number of each.
var attacks = []struct {
	upgrades bool                      // it sends a complete upgrade request first and waits for the response
	every    time.Duration             // interval between steps
	send     func(step int) (p []byte) // the data of a step; nil: no more data
}{
	// Silent: before the request, within it, after it, and within a frame.
	{send: in()},
	{send: in(upgradeRequest[:40])},
	{upgrades: true, send: in(upgradeRequest)},
	{upgrades: true, send: in(upgradeRequest, "\x81\xfe\x40\x00mask{")},
	// Slow: one byte per second, of the request or of frames.
	{every: time.Second, send: slowly("", upgradeRequest)},
	{every: time.Second, send: slowly("", upgradeRequest)},
	{upgrades: true, every: time.Second, send: slowly(upgradeRequest, "\x81\xfe\x40\x00mask"+strings.Repeat(" ", 100))},
	{upgrades: true, every: time.Second, send: slowly(upgradeRequest, "\x01\x81mask "+strings.Repeat("\x00\x81mask ", 100))},
	// Flooding, 5 times per second: an endless message of empty fragments, with and without pings in between; pings;
	// pongs.
	{upgrades: true, every: flood, send: endlessly(strings.Repeat("\x00\x80mask", 32)+"\x89\x80mask", upgradeRequest, "\x01\x80mask")},
	{upgrades: true, every: flood, send: endlessly(strings.Repeat("\x00\x80mask", 128), upgradeRequest, "\x01\x80mask")},
	{upgrades: true, every: flood, send: endlessly("\x89\x80mask\x89\x84mask----", upgradeRequest)},
	{upgrades: true, every: flood, send: endlessly("\x8a\x80mask\x8a\x84mask----", upgradeRequest)},
	// Malformed: a frame without a mask, reserved bits with an unknown opcode, an invalid close code; and data that is
	// not HTTP.
	{upgrades: true, send: in(upgradeRequest, "\x81\x05hello")},
	{upgrades: true, send: in(upgradeRequest, "\xf3\x80mask")},
	{upgrades: true, send: in(upgradeRequest, "\x88\x82\x00\x00\x00\x00\x03\xee")},
	{send: in("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")},
}

const flood = time.Second / 5

const upgradeRequest = "GET " + wire.Path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// in sends the given steps one after the other.
func in(steps ...string) func(int) []byte {
	return func(step int) []byte {
		if step < len(steps) {
			return []byte(steps[step])
		}
		return nil
	}
}

// slowly sends first, unless it is empty, and then rest byte by byte.
func slowly(first, rest string) func(int) []byte {
	steps := strings.Split(rest, "")
	if first != "" {
		steps = append([]string{first}, steps...)
	}
	return in(steps...)
}

// endlessly sends the steps of first, and then one without end.
func endlessly(one string, first ...string) func(int) []byte {
	begin := in(first...)
	return func(step int) []byte {
		if p := begin(step); p != nil {
			return p
		}
		return []byte(one)
	}
}
