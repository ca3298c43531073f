package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// renew gets a token after delay and sends it to the server. It runs in a goroutine of its own,
// because the reader must keep reading and the handler may be busy beyond the end of the lease. It
// does nothing if a renewal is already running.
func (c *conn) renew(ctx context.Context, delay time.Duration) {
	if !c.renewing.CompareAndSwap(false, true) {
		return
	}
	c.work.Go(func() {
		wait := time.NewTimer(delay)
		defer wait.Stop()
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		token, err := c.cfg.Token(ctx)
		c.renewing.Store(false) // before the server can request another renewal
		var e event
		switch {
		case err == nil:
			c.rememberToken(token)
			c.write(wire.Renew{Token: token})
			return
		case errors.Is(err, ErrUnauthorized):
			e.end = &ending{err: fmt.Errorf("token: %w", err), stop: true}
		default: // if the lease ends with 4501, the next connection gets a new token
			e.problem = fmt.Errorf("token for renewal: %w", err)
		}
		select {
		case c.events <- e:
		case <-ctx.Done():
		}
	})
}
