package main

import (
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// admin is the HTTP server for operators and monitoring: health, metrics, profiles. It has no authentication, so it listens on loopback
// by default. It starts before the gateway connects to NATS, and stops last.
type admin struct {
	*httpServer
	watched    atomic.Pointer[watched] // nil until the gateway serves
	host       string                  // of --admin-listen
	limitedLog zerolog.Logger          // at most one line a minute
}

// watched is what the admin server shows of a gateway that serves.
type watched struct {
	unready func() []string // reasons not to send clients here; none if the gateway is ready
	metrics http.Handler
}

// startAdmin starts the admin server on the address. It returns nil if the address is empty.
func startAdmin(address string, log zerolog.Logger) (*admin, error) {
	if address == "" {
		return nil, nil
	}
	l, err := listen("admin-listen", address)
	if err != nil {
		return nil, err
	}
	if !isLoopback(hostOf(address)) {
		log.Warn().Stringer("admin", l.Addr()).Msg("--admin-listen has no authentication: allow access only to those who may see profiles and metrics")
	}
	a := &admin{host: hostOf(address), limitedLog: log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})}
	// No WriteTimeout: a profile takes as long as its request asks for.
	a.httpServer = serve(&http.Server{Handler: a.byAddress(a.routes()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}, l, log)
	log.Info().Stringer("admin", l.Addr()).Msg("health, metrics and profiles")
	return a, nil
}

// watch shows the gateway's health and metrics from now on. The caller calls it once the gateway serves. The receiver may be nil.
func (a *admin) watch(w watched) {
	if a != nil {
		a.watched.Store(&w)
	}
}

// close stops the server. The receiver may be nil.
func (a *admin) close() {
	if a != nil {
		a.httpServer.close()
	}
}

// failed returns a channel that is closed when the server has stopped; err then says why. It returns nil for a nil receiver.
func (a *admin) failed() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.ended
}

func (a *admin) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons := []string{"starting"}
		if g := a.watched.Load(); g != nil {
			reasons = g.unready()
		}
		writeHealth(w, reasons)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if g := a.watched.Load(); g != nil {
			g.metrics.ServeHTTP(w, r)
			return
		}
		writeHealth(w, []string{"starting"})
	})
	mux.HandleFunc(pprofPath, pprof.Index) // serves the named profiles too; cmdline is left out, since it may contain a password
	mux.HandleFunc(pprofPath+"profile", pprof.Profile)
	mux.HandleFunc(pprofPath+"symbol", pprof.Symbol)
	mux.HandleFunc(pprofPath+"trace", pprof.Trace)
	return mux
}

// byAddress protects against DNS rebinding. The author of a web page can point their own host name at this listener, and for the browser
// the page and the listener are then one origin. So on loopback the Host header must be an IP address or localhost. Over the network other
// names are allowed, since monitoring may use one, but not for profiles.
func (a *admin) byAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		inside := to == nil || isLoopback(hostOf(to.String()))
		if !a.trustedHost(r.Host) && (inside || strings.HasPrefix(r.URL.Path, pprofPath)) {
			a.limitedLog.Warn().Str("host", r.Host).Str("path", r.URL.Path).
				Msg("--admin-listen: request by host name rejected: use an IP address or localhost in the URL")
			http.Error(w, "use an IP address or localhost in the URL: other host names are rejected because of DNS rebinding", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// trustedHost reports whether a Host header, with or without a port, is an IP address, localhost, or the host of --admin-listen. An empty
// header is trusted too, since no browser sends one.
func (a *admin) trustedHost(host string) bool {
	name := host
	if hasPort(host) {
		name = hostOf(host)
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || name == "" || strings.EqualFold(name, "localhost") || strings.EqualFold(name, a.host)
}

const pprofPath = "/debug/pprof/"

// writeHealth responds with 200 and "ok", or with 503 and one line for each reason.
func writeHealth(w http.ResponseWriter, reasons []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if len(reasons) == 0 {
		reasons = []string{"ok"}
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = io.WriteString(w, strings.Join(reasons, "\n")+"\n")
}
