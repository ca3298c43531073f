package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// renew asks for a token after delay and offers it to the server, in a goroutine of its own: the reader must read on, and
// the handler may be busy past the lease's end. One renewal at a time is enough.
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
		c.renewing.Store(false) // before the server can ask for another
		var e event
		switch {
		case err == nil:
			c.remember(token)
			c.write(wire.Renew{Token: token})
			return
		case errors.Is(err, ErrUnauthorized):
			e.end = &ending{err: fmt.Errorf("token: %w", err), stop: true}
		default: // the lease may end then, with 4501, and the next connect asks again
			e.problem = fmt.Errorf("token for a renewal: %w", err)
		}
		select {
		case c.events <- e:
		case <-ctx.Done():
		}
	})
}
