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

// crowdPath is where ServeAttackers tells how it goes.
const crowdPath = "/crowd"

// Attackers come at a fixed rate, on a server that refuses them and on one that holds them alike.
const (
	attackersPerSecond = 2000             // who come for the first time
	againAfter         = 12 * time.Second // each comes again, whether or not its connection has ended before: a gateway gives them 10
	attackersDial      = 5 * time.Second
	attackersWrite     = 5 * time.Second
	attackersHosts     = 250 // addresses that they come from: 127.0.1.1 and so on
)

// crowd is many attackers.
type crowd struct {
	target string
	dialed, connected, upgraded,
	refused, held, most atomic.Int64
}

// crowded is what ServeAttackers tells of them.
type crowded struct {
	Dialed    int64 `json:"dialed"`
	Connected int64 `json:"connected"`
	Upgraded  int64 `json:"upgraded"` // of these
	Refused   int64 `json:"refused"`  // of these, by HTTP
	Held      int64 `json:"held"`     // connections that are open
	Most      int64 `json:"most"`     // that were at once
}

// ServeAttackers makes so many connections to a server on this machine and does harm with them, until ctx is done. None has a token:
// they are silent, slow, flood, or send what is malformed.
func ServeAttackers(ctx context.Context, listener net.Listener, target string, n int) error {
	if address, err := net.ResolveTCPAddr("tcp", target); err != nil || !address.IP.IsLoopback() {
		return errors.Join(err, fmt.Errorf("attack %s: only what listens on loopback is attacked", target))
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
				came := time.Now()
				c.attack(ctx, i)
				wait = againAfter - time.Since(came)
			}
		})
	}
	defer all.Wait()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (c *crowd) report() crowded {
	return crowded{
		c.dialed.Load(), c.connected.Load(), c.upgraded.Load(), c.refused.Load(), c.held.Load(), c.most.Load(),
	}
}

// attack makes one connection, and says on it what its kind says, until the server ends it or it is time to come again.
func (c *crowd) attack(ctx context.Context, i int) {
	ctx, cancel := context.WithTimeout(ctx, againAfter)
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
		if most := c.most.Load(); held <= most || c.most.CompareAndSwap(most, held) {
			break
		}
	}
	answered, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		c.hear(conn, answered)
	}()
	defer func() {
		_ = conn.Close()
		<-ended
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	for step := 0; ; step++ {
		said := kind.says(step)
		if said == nil {
			<-ended
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(attackersWrite))
		if _, err := conn.Write(said); err != nil {
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

// hear reads until the server ends the connection.
func (c *crowd) hear(conn net.Conn, answered chan<- struct{}) {
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

// attacks are the kinds of attackers, of which there are as many each.
var attacks = []struct {
	upgrades bool
	every    time.Duration             // between what it says
	says     func(step int) (p []byte) // nil: nothing more
}{
	// Silent: before the request, within it, behind it, and within a frame that was announced.
	{says: in()},
	{says: in(upgradeRequest[:40])},
	{upgrades: true, says: in(upgradeRequest)},
	{upgrades: true, says: in(upgradeRequest, "\x81\xfe\x40\x00mask{")},
	// Slow: one byte a second, of the request and of a frame.
	{every: time.Second, says: slowly("", upgradeRequest)},
	{every: time.Second, says: slowly("", upgradeRequest)},
	{upgrades: true, every: time.Second, says: slowly(upgradeRequest, "\x81\xfe\x40\x00mask"+strings.Repeat(" ", 100))},
	{upgrades: true, every: time.Second, says: slowly(upgradeRequest, "\x01\x81mask "+strings.Repeat("\x00\x81mask ", 100))},
	// Flooding: a message without end of empty fragments, with pings between them, and pings alone, 5 times a second.
	{upgrades: true, every: flood, says: again(strings.Repeat("\x00\x80mask", 32)+"\x89\x80mask", upgradeRequest, "\x01\x80mask")},
	{upgrades: true, every: flood, says: again(strings.Repeat("\x00\x80mask", 128), upgradeRequest, "\x01\x80mask")},
	{upgrades: true, every: flood, says: again("\x89\x80mask\x89\x84mask----", upgradeRequest)},
	{upgrades: true, every: flood, says: again("\x8a\x80mask\x8a\x84mask----", upgradeRequest)},
	// Malformed: no mask, reserved bits and an opcode that there is not, a close code that there is not; and no HTTP.
	{upgrades: true, says: in(upgradeRequest, "\x81\x05hello")},
	{upgrades: true, says: in(upgradeRequest, "\xf3\x80mask")},
	{upgrades: true, says: in(upgradeRequest, "\x88\x82\x00\x00\x00\x00\x03\xee")},
	{says: in("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")},
}

const flood = time.Second / 5

const upgradeRequest = "GET " + wire.Path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// in says these one after the other.
func in(steps ...string) func(int) []byte {
	return func(step int) []byte {
		if step < len(steps) {
			return []byte(steps[step])
		}
		return nil
	}
}

// slowly says the first, if there is one, and then the other byte by byte.
func slowly(first, rest string) func(int) []byte {
	steps := strings.Split(rest, "")
	if first != "" {
		steps = append([]string{first}, steps...)
	}
	return in(steps...)
}

// again says these, and then the one for ever.
func again(one string, first ...string) func(int) []byte {
	begin := in(first...)
	return func(step int) []byte {
		if p := begin(step); p != nil {
			return p
		}
		return []byte(one)
	}
}
