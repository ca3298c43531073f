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

// admin is the HTTP server for operators and what watches over a gateway: health, metrics, profiles. It asks nobody who he is, so
// it listens on loopback unless told otherwise. It begins before NATS is waited for, and ends last.
type admin struct {
	*httpServer
	watched atomic.Pointer[watched]
	name    string         // host of --admin-listen
	seldom  zerolog.Logger // a line a minute
}

// watched is a gateway that has begun to serve.
type watched struct {
	unready func() []string // why no client should be sent here, if there is a reason
	metrics http.Handler
}

// startAdmin serves on the address; empty: nil, nobody is served.
func startAdmin(address string, log zerolog.Logger) (*admin, error) {
	if address == "" {
		return nil, nil
	}
	l, err := listen("admin-listen", address)
	if err != nil {
		return nil, err
	}
	if !isLoopback(hostOf(address)) {
		log.Warn().Stringer("admin", l.Addr()).Msg("--admin-listen asks nobody who he is: let only those reach it who may see profiles and metrics")
	}
	a := &admin{name: hostOf(address), seldom: log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})}
	// Profiles take as long as they are asked for: there is no bound for answers.
	a.httpServer = serve(&http.Server{Handler: a.byAddress(a.routes()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}, l, log)
	log.Info().Stringer("admin", l.Addr()).Msg("health, metrics and profiles")
	return a, nil
}

// watch is called once the gateway serves.
func (a *admin) watch(w watched) {
	if a != nil {
		a.watched.Store(&w)
	}
}

// close is httpServer's, of one that may be nil.
func (a *admin) close() {
	if a != nil {
		a.httpServer.close()
	}
}

// failed is closed when it does not serve any more; why is in err.
func (a *admin) failed() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.ended
}

func (a *admin) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answerHealth(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons := []string{"starting"}
		if g := a.watched.Load(); g != nil {
			reasons = g.unready()
		}
		answerHealth(w, reasons)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if g := a.watched.Load(); g != nil {
			g.metrics.ServeHTTP(w, r)
			return
		}
		answerHealth(w, []string{"starting"})
	})
	mux.HandleFunc(profiles, pprof.Index) // the named ones too; but no cmdline, which may have a password in it
	mux.HandleFunc(profiles+"profile", pprof.Profile)
	mux.HandleFunc(profiles+"symbol", pprof.Symbol)
	mux.HandleFunc(profiles+"trace", pprof.Trace)
	return mux
}

// byAddress refuses requests by which a page may read what is here: its author can have a name of their own lead to this listener (DNS
// rebinding), and to the browser that is one origin. An IP address cannot be had so, and localhost is known to browsers. Other names are
// taken where the listener is reached from the network, since monitoring may know it by one, but not for profiles.
func (a *admin) byAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		inside := to == nil || isLoopback(hostOf(to.String()))
		if !a.namesAddress(r.Host) && (inside || strings.HasPrefix(r.URL.Path, profiles)) {
			a.seldom.Warn().Str("host", r.Host).Str("path", r.URL.Path).Msg("--admin-listen: refused a request by a name: ask by IP address, or by localhost")
			http.Error(w, "ask by IP address, or by localhost: a page could ask by a name of its own", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// namesAddress reports whether a Host header, with or without a port, is an IP address, localhost, or the host of --admin-listen. It may be
// empty, which no browser sends.
func (a *admin) namesAddress(host string) bool {
	name := host
	if hasPort(host) {
		name = hostOf(host)
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || name == "" || strings.EqualFold(name, "localhost") || strings.EqualFold(name, a.name)
}

const profiles = "/debug/pprof/"

// answerHealth is ok, or a line for each reason why not.
func answerHealth(w http.ResponseWriter, reasons []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if len(reasons) == 0 {
		reasons = []string{"ok"}
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = io.WriteString(w, strings.Join(reasons, "\n")+"\n")
}
