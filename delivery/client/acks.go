package client

import (
	"context"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// sendAcks runs in a goroutine of its own and sends acknowledgements, so that neither a busy
// handler nor the caller of Client.Ack delays them. It combines the acknowledgements of
// Config.AckEvery, or ackBatch of them, into one frame.
func (c *conn) sendAcks(ctx context.Context) {
	due := time.NewTimer(c.cfg.AckEvery)
	due.Stop()
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.progress.wake:
			if !c.progress.batchFull() {
				if !waiting {
					waiting = true
					due.Reset(c.cfg.AckEvery)
				}
				continue
			}
		case <-due.C:
		}
		waiting = false
		due.Stop()
		c.sendAck()
	}
}

// sendAck sends the pending acknowledgement and the answer to a gap. It holds the write lock while
// it reads the sequence number, so that acknowledgements leave in order.
func (c *conn) sendAck() {
	c.writing.Lock()
	defer c.writing.Unlock()
	seq, gap := c.progress.nextAck()
	if gap {
		c.writeLocked(wire.Pong{})
	}
	if seq > 0 {
		c.writeLocked(wire.Ack{Seq: seq})
	}
}
