package client

import (
	"context"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// sendAcks is the goroutine that acknowledges, so that neither a busy handler nor the caller of Client.Ack holds it up. It
// gathers what comes within Config.AckEvery, or ackBatch acknowledgements, into one frame.
func (c *conn) sendAcks(ctx context.Context) {
	due := time.NewTimer(c.cfg.AckEvery)
	due.Stop()
	gathering := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.progress.wake:
			if !c.progress.full() {
				if !gathering {
					gathering = true
					due.Reset(c.cfg.AckEvery)
				}
				continue
			}
		case <-due.C:
		}
		gathering = false
		due.Stop()
		c.sendAck()
	}
}

// sendAck acknowledges what there is, and the word of a gap. The number is taken with the writer held, so that numbers go out in order.
func (c *conn) sendAck() {
	c.writing.Lock()
	defer c.writing.Unlock()
	seq, gap := c.progress.take()
	if gap {
		c.writeLocked(wire.Pong{})
	}
	if seq > 0 {
		c.writeLocked(wire.Ack{Seq: seq})
	}
}
