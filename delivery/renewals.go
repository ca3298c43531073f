package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
)

// renewals bounds how many tokens can be guessed by renewing. It counts refused renewals by address, apart from other failures: whoever is
// admitted can renew although strangers behind the same address guess tokens. What is asked about is counted once it is answered, so
// only so many are asked about at once. Nil bounds nothing.
type renewals struct {
	refused *buckets[netip.Addr]
	atOnce  int64

	mu sync.Mutex
	of map[netip.Addr]*renewing // addresses that renew now
}

type renewing struct {
	slots *semaphore.Weighted
	users int
}

// renewalsAtOnce is enough for 160 renewals a second of one address where the backend answers in 100 ms.
const renewalsAtOnce = 16

func newRenewals(rate float64) *renewals {
	refused := newBuckets[netip.Addr](rate)
	if refused == nil {
		return nil
	}
	return &renewals{refused: refused, atOnce: int64(min(refused.burst, renewalsAtOnce)), of: map[netip.Addr]*renewing{}}
}

// acquire waits until a renewal of the address may be asked about. The caller must call release afterwards, unless it failed with ctx's error.
func (r *renewals) acquire(ctx context.Context, a netip.Addr) (release func(), err error) {
	if r == nil || !a.IsValid() {
		return func() {}, nil
	}
	r.mu.Lock()
	now := r.of[a]
	if now == nil {
		now = &renewing{slots: semaphore.NewWeighted(r.atOnce)}
		r.of[a] = now
	}
	now.users++
	r.mu.Unlock()
	leave := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if now.users--; now.users == 0 {
			delete(r.of, a)
		}
	}
	if err := now.slots.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	return func() {
		now.slots.Release(1)
		leave()
	}, nil
}

var errOthersToken = &closing{code: wire.CloseForbidden, reason: "the fresh token is another user's"}

// authenticateAgain asks the backend about the fresh token of a client that was admitted as user. A token that is refused, or another
// user's, counts against the address as a failed authentication does; past the limit nobody is asked, and the error is auth.ErrBusy.
func (g *Gateway) authenticateAgain(ctx context.Context, request auth.Request, user string) (auth.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.OpenWithin)
	defer cancel()
	request.Renew = true
	a := addressOf(request.RemoteAddr)
	release, err := g.gate.renewals.acquire(ctx, a)
	if err != nil {
		return auth.Identity{}, fmt.Errorf("%w: too many renewals from this address: %w", auth.ErrBusy, err)
	}
	defer release()
	if g.gate.renewals != nil && g.gate.renewals.refused.empty(a) {
		return auth.Identity{}, fmt.Errorf("%w: %w", auth.ErrBusy, g.refuse(limitFailedAuthRate, request.RemoteAddr))
	}
	identity, err := g.askBackend(ctx, request)
	if err == nil && identity.User != user {
		err = errOthersToken
	}
	if g.gate.renewals != nil && (maybeGuessed(err) || errors.Is(err, errOthersToken)) {
		g.gate.renewals.refused.take(a)
		g.failed(request.RemoteAddr)
	}
	return identity, err
}
