package delivery

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// localOnly refuses what asks for a host that is not this machine. A page elsewhere can have its own name lead here (DNS
// rebinding): to the browser it is then of the same origin as the demo, which admits anybody as anybody.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocal(r.Host) {
			writeProblem(w, problemf(http.StatusForbidden, "the demo is for this machine alone: ask for localhost, or run the gateway without --dev"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLocal says whether a Host header names the machine itself.
func isLocal(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
