package delivery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
)

// Limits say who gets in, and how much of one there may be. Zero fields mean no limit; DefaultLimits are what a gateway on the internet wants. An
// address is one of IPv4, or 64 bits of one of IPv6, which is what a customer has. Where a rate is a number a second, ten seconds of it may
// come at once.
type Limits struct {
	// Connections in all, by WebSocket and for server-sent events: past them 503. It has no default: it depends on the files that the
	// process may open.
	Connections int
	// ConnectionsPerAddress, past which 429. Default 2,000: the staff of a large company behind one address, at some 18 KiB for each.
	ConnectionsPerAddress int
	// ConnectionsPerUser, past which 4529, or 429. Default 100, since tabs count one by one; more is a client that leaks them.
	ConnectionsPerUser int
	// Unauthenticated connections, for which no token has been admitted yet, and requests whose token is asked about, in all: past them
	// 503. Default 10,000, some 300 MB of memory. Clients that come back to a gateway all at once are such, as long as the backend is slow
	// to answer.
	Unauthenticated int
	// UnauthenticatedPerAddress, past which 429. Default 500: who says nothing holds one for 10 s, and a company that comes back all at
	// once has as many for a moment.
	UnauthenticatedPerAddress int

	// ConnectRate is how many connections an address may begin a second, and requests with a user's token, which ask the backend as those
	// do: past them 429. Default 100: a burst of 1,000 for a company or a load test, and a thirtieth of a core for an abuser.
	ConnectRate float64
	// FailedAuthRate is how many tokens and API keys of an address may be refused a second: past that 429, and nobody is asked; a good
	// API key stays good. Renewals that are refused, or bring another user's token, count as well. Past as many of those alone, renewals
	// of the address are answered renew_unavailable. Default 5: 50 at once where a deployment was wrong, and nothing that guesses a token.
	FailedAuthRate float64
	// SendRate is how many bytes a second a WebSocket client is read, and each frame counts for 128 more. Who sends faster is read no
	// faster; nothing is lost. Default 16,384: about 100 acknowledgements a second, and 1,000 at once, or 200
	// just after it was admitted. Ours gather 16 into one.
	SendRate int
	// PublishRate is how many requests to publish an API key may make a second: past them 429. Default none: a key is a backend's.
	PublishRate float64

	// TrustedProxies may say in X-Forwarded-For whose requests they pass on. Of everybody else the header is ignored.
	TrustedProxies []netip.Prefix
}

// DefaultLimits are those that Limits tells.
func DefaultLimits() Limits {
	return Limits{
		ConnectionsPerAddress: 2000, ConnectionsPerUser: 100, Unauthenticated: 10_000, UnauthenticatedPerAddress: 500,
		ConnectRate: 100, FailedAuthRate: 5, SendRate: 16 << 10,
	}
}

// Kinds of limits, as they are logged and counted.
const (
	limitConnections               = "connections"
	limitConnectionsPerAddress     = "connections_per_address"
	limitConnectionsPerUser        = "connections_per_user"
	limitUnauthenticated           = "unauthenticated"
	limitUnauthenticatedPerAddress = "unauthenticated_per_address"
	limitConnectRate               = "connect_rate"
	limitFailedAuthRate            = "failed_auth_rate"
	limitPublishRate               = "publish_rate"

	// Which are none of Limits.
	limitOrigin   = "origin"
	limitDraining = "draining"
)

// limitReasons are what a client is told.
var limitReasons = map[string]string{
	limitConnections:               "this gateway has as many connections as it takes",
	limitConnectionsPerAddress:     "too many connections from this address",
	limitConnectionsPerUser:        "too many connections of this user",
	limitUnauthenticated:           "too many connections wait to be authenticated",
	limitUnauthenticatedPerAddress: "too many connections from this address wait to be authenticated",
	limitConnectRate:               "too many connections or requests a second from this address",
	limitFailedAuthRate:            "too many tokens or keys from this address were refused",
	limitPublishRate:               "too many requests to publish a second with this key",
}

// limitFor is how one who is past a limit is turned away.
func limitFor(kind string) *closing {
	c := &closing{code: wire.CloseTooMany, reason: limitReasons[kind], retryAfter: 2 * time.Second, spread: 8 * time.Second}
	switch kind {
	case limitConnections, limitUnauthenticated: // which is no fault of this client
		c.code = wire.CloseUnavailable
	case limitConnectionsPerUser: // that does not pass by itself
		c.retryAfter, c.spread = 30*time.Second, 15*time.Second
	}
	return c
}

// refuse turns a client away. It counts the refusal by its kind, and logs one of a kind a minute, with the names and values of further fields
// such as the user.
func (g *Gateway) refuse(kind, remote string, fields ...any) error {
	g.metrics.limited(kind)
	of := g.gate.refused[kind]
	hint := "turned away: raise the limit if this was no abuse"
	switch kind {
	case limitConnectionsPerAddress, limitUnauthenticatedPerAddress, limitConnectRate, limitFailedAuthRate:
		hint += "; if the address is that of a proxy of yours, name it with --trusted-proxy"
	}
	of.log.Warn().Str("limit", kind).Str("remote", remote).Fields(fields).Int64("so_far", of.n.Add(1)).Msg(hint)
	return limitFor(kind)
}

// enter lets a connection in, or says why not; nothing has been asked of NATS by then. Leave is to be called at its end.
func (g *Gateway) enter(r *http.Request) error {
	if !g.all.begin() {
		g.metrics.limited(limitDraining)
		return g.closed()
	}
	err := g.mayAsk(r.RemoteAddr, connection)
	if err != nil {
		g.all.done()
	}
	return err
}

// leave gives back what enter took, of a connection that was admitted or not.
func (g *Gateway) leave(remote string, admitted bool) {
	g.gate.leave(addressOf(remote), admitted)
	g.all.done()
}

// mayAsk says why a client may not be asked about now, or counts it as one who is, until it leaves the gate.
func (g *Gateway) mayAsk(remote string, one count) error {
	if err := g.notFailing(remote); err != nil {
		return err
	}
	if !g.gate.connects.take(addressOf(remote)) {
		return g.refuse(limitConnectRate, remote)
	}
	if kind := g.gate.enter(addressOf(remote), one); kind != "" {
		return g.refuse(kind, remote)
	}
	return nil
}

// ask asks whose the token of a request is. Until there is an answer the request counts as an unauthenticated connection does: it keeps
// others from being asked about just the same. But it is none: where there are as many as may be, their acknowledgements are still taken.
func (g *Gateway) ask(r *http.Request, token, device string) (auth.Identity, error) {
	if err := g.mayAsk(r.RemoteAddr, question); err != nil {
		return auth.Identity{}, err
	}
	defer g.gate.admit(addressOf(r.RemoteAddr))
	request := questionFor(r)
	request.Token, request.Device = token, device
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.OpenWithin)
	defer cancel()
	return g.authenticate(ctx, request)
}

// notFailing refuses an address that brought too many bad tokens and keys, whatever it brings now: it could guess on otherwise. Only an API
// key that is good stays so, since strangers may have the address of a backend's proxy: keys are too long to be guessed.
func (g *Gateway) notFailing(remote string) error {
	if g.gate.failures.empty(addressOf(remote)) {
		return g.refuse(limitFailedAuthRate, remote)
	}
	return nil
}

// failed counts a bad token or key.
func (g *Gateway) failed(remote string) { g.gate.failures.take(addressOf(remote)) }

// authenticate asks the backend whose a token is. What is asked meanwhile for the same address it cannot count before the answer: so many as
// the limits on connections and their rate allow.
func (g *Gateway) authenticate(ctx context.Context, request auth.Request) (auth.Identity, error) {
	if err := g.notFailing(request.RemoteAddr); err != nil {
		return auth.Identity{}, err
	}
	count := func(err error) {
		if maybeGuessed(err) {
			g.failed(request.RemoteAddr)
		}
	}
	// Clients that leave before the answer could have any number of tokens asked about otherwise.
	identity, err := g.askBackend(auth.WithLate(ctx, count), request)
	count(err)
	return identity, err
}

// askBackend is Authenticate, and logs that nobody answers. An API key is refused, and not sent to the backend.
func (g *Gateway) askBackend(ctx context.Context, request auth.Request) (auth.Identity, error) {
	if g.keys.Load().resembles(request.Token) {
		return auth.Identity{}, errKeyAsToken
	}
	identity, err := g.cfg.Auth.Authenticate(ctx, request)
	if errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrBadReply) {
		g.authLog.Warn().Err(err).Msg("nobody said whether a token is good: nobody is admitted meanwhile")
	}
	return identity, err
}

// maybeGuessed says whether an answer is about a token that may have been guessed. One that has expired was good once. An answer that cannot
// be used, such as success without a user, is how some backends say that they know nobody.
func maybeGuessed(err error) bool {
	var refusal *auth.Refusal
	if errors.As(err, &refusal) {
		return refusal.RetryAfter == 0 && refusal.Code != auth.CodeTokenExpired
	}
	return errors.Is(err, auth.ErrBadReply)
}

// mayPublish counts a request to publish by its key, which is good.
func (g *Gateway) mayPublish(r *http.Request) error {
	_, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(key))
	if !g.gate.publications.take(sum) {
		return g.refuse(limitPublishRate, r.RemoteAddr, "key_sha256", fmt.Sprintf("%x…", sum[:4]))
	}
	return nil
}
