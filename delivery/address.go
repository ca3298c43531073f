package delivery

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// addressOf is the address that limits count for a client: of an IPv6 address the first 64 bits, since whoever has one of them has all.
// It is the zero Addr where the client has none.
func addressOf(remote string) netip.Addr {
	a, ok := parseAddress(remote)
	if !ok || a.Is4() {
		return a
	}
	p, _ := a.Prefix(64) // of IPv6 never fails
	return p.Addr()
}

// parseAddress reads an address with or without a port.
func parseAddress(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		a = withPort.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// behindProxies has requests come from whom the trusted proxies say: for limits, for the log and for the backend.
func (g *Gateway) behindProxies(next http.Handler) http.Handler {
	var unknown sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.passedOn(r) {
			unknown.Do(func() {
				g.log.Warn().Str("remote", r.RemoteAddr).Msg("requests from here say that they are passed on: if this is a proxy of yours, name it with --trusted-proxy, " +
					"or all its clients share the limits of one address; if not, somebody plays a proxy")
			})
		}
		r.RemoteAddr = clientAddress(r.RemoteAddr, r.Header.Values("X-Forwarded-For"), g.gate.limits.TrustedProxies)
		next.ServeHTTP(w, r)
	})
}

// passedOn says whether a request seems to come through a proxy of the operator's own that the gateway was not told of.
func (g *Gateway) passedOn(r *http.Request) bool {
	if r.Header.Get("X-Forwarded-For") == "" || g.cfg.Demo {
		return false
	}
	a, ok := parseAddress(r.RemoteAddr)
	return ok && (a.IsLoopback() || a.IsPrivate()) && !trusted(g.gate.limits.TrustedProxies, r.RemoteAddr)
}

// trusted says whether an address is that of one of the proxies.
func trusted(proxies []netip.Prefix, address string) bool {
	a, ok := parseAddress(address)
	return ok && slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// clientAddress goes from the peer along X-Forwarded-For, from right to left, as long as each is a trusted proxy: only those are believed what
// they have added. The client is the first who is none, or the last before what cannot be read.
func clientAddress(peer string, forwarded []string, proxies []netip.Prefix) string {
	for i := len(forwarded) - 1; i >= 0; i-- {
		for rest, more := forwarded[i], true; more; {
			if !trusted(proxies, peer) {
				return peer
			}
			comma := strings.LastIndexByte(rest, ',')
			before, ok := parseAddress(strings.TrimSpace(rest[comma+1:]))
			if !ok {
				return peer
			}
			peer, rest, more = before.String(), rest[:max(comma, 0)], comma >= 0
		}
	}
	return peer
}
