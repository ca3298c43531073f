package main

import (
	"io"
	"net/http"
	"net/http/pprof"
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
	a := &admin{}
	// Profiles take as long as they are asked for: there is no bound for answers.
	a.httpServer = serve(&http.Server{Handler: a.routes(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}, l, log)
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
	mux.HandleFunc("/debug/pprof/", pprof.Index) // the named ones too; but no cmdline, which may have a password in it
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

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
