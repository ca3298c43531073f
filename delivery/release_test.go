package delivery

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/delivery/wire"
)

// What is held when a session ends counts as delivered where it is sent then, and only there.
func TestWhatIsHeldAtTheEndCountsWhereItIsSent(t *testing.T) {
	t.Parallel()
	for code, sent := range map[wire.CloseCode]uint64{wire.CloseDraining: 1, wire.CloseDisconnected: 0} {
		var log bytes.Buffer
		server, client := net.Pipe()
		c := &cork{Conn: server, pool: &sync.Pool{}}
		s := &session{
			g: &Gateway{metrics: newMetrics("0.0.0"), log: zerolog.New(&log)}, line: &socket{cork: c}, endBy: time.Now().Add(time.Minute),
			delivered: 1, account: account{state: live, bytes: 1},
		}
		c.hold()
		if _, err := c.Write(textFrame("msg")); err != nil {
			t.Fatal(err)
		}
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, client) })
		s.release(code)
		s.ended(int(code), byGateway, nil)
		_ = server.Close()
		reading.Wait()
		var line struct{ Delivered, Bytes uint64 }
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Delivered != sent || line.Bytes != 1+sent*5 {
			t.Errorf("%s: %+v, want %d delivered", code, line, sent)
		}
	}
}
