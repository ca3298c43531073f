package delivery

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/tidings-io/tidings/delivery/wire"
)

// frameCosts is what a frame counts for beside its bytes: it takes us longer to handle than to read.
const frameCosts = 128

// readAtOnce bounds what a client can owe.
const readAtOnce = 4 << 10

// pace is how fast a client is read: what has been read is paid for before more is. It counts at the socket, beneath gorilla, which reads
// pings, pongs and empty fragments without a word. Only the reader uses it.
type pace struct {
	bucket *rate.Limiter // nil: as fast as it sends
	paid   time.Duration // when more may be read, since loaded; 0: now
	over   <-chan struct{}
}

// loaded is when the program began. What is counted from it is a third of a time.Time, and there is one for each connection.
var loaded = time.Now()

// charge counts what a client has sent.
func (p *pace) charge(n int) {
	if p.bucket == nil {
		return
	}
	now := time.Now()
	p.paid = 0
	if delay := p.bucket.ReserveN(now, n).DelayFrom(now); delay > 0 {
		p.paid = now.Sub(loaded) + delay
	}
}

// wait waits until all is paid for, or the session is over.
func (p *pace) wait() {
	if p.paid == 0 {
		return
	}
	timer := time.NewTimer(p.paid - time.Since(loaded))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.over:
	}
	p.paid = 0
}

// Read is for gorilla.
func (c *cork) Read(p []byte) (int, error) {
	c.pace.wait()
	n, err := c.Conn.Read(p[:min(len(p), readAtOnce)])
	c.pace.charge(n)
	return n, err
}

// throttle bounds how fast the client is read, until the session is over. Before it is admitted it has a token to send, and a few frames.
func (c *socket) throttle(g *Gateway, over <-chan struct{}) {
	if g.gate.limits.SendRate > 0 {
		c.pace.over = over
		c.pace.bucket = rate.NewLimiter(rate.Limit(g.gate.limits.SendRate), int(2*max(g.cfg.MaxFrame, readAtOnce)))
	}
	most := max(1, int(2*g.cfg.AuthWithin.Seconds()))
	pong := c.ws.PingHandler()
	c.ws.SetPingHandler(func(data string) error {
		if err := c.control(most); err != nil {
			return err
		}
		return pong(data)
	})
	c.ws.SetPongHandler(func(string) error { return c.control(most) })
}

// control counts a ping or a pong. Before ready a client may send two for each second that it has to send its token.
func (c *socket) control(most int) error {
	c.pace.charge(frameCosts)
	if c.trusted.Load() {
		return nil
	}
	if c.controls++; c.controls > most {
		return &closing{code: wire.CloseBadFrame, reason: "too many pings or pongs before ready"}
	}
	return nil
}

// trust lets an admitted client send a burst, for which it has yet to gather: or who comes again and again would have one each time.
func (c *socket) trust(g *Gateway) {
	c.trusted.Store(true)
	if c.pace.bucket != nil {
		c.pace.bucket.SetBurst(max(10*g.gate.limits.SendRate, c.pace.bucket.Burst()))
	}
}
