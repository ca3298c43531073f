package delivery

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

// routeAPI mounts the HTTP API. openapi.json, which it serves, is its reference.
func (g *Gateway) routeAPI(r chi.Router) {
	r.Get("/v1/openapi.json", serveOpenAPI)
	r.Post("/v1/notifications", g.answer(g.postNotifications))
	r.Get("/v1/users/{user}", g.answer(g.getUser))
	r.Delete("/v1/users/{user}/connections", g.answer(g.deleteConnections))
	r.Get("/v1/users/{user}/notifications", g.answer(g.getNotifications))
	r.Options("/v1/users/{user}/notifications", g.preflight(http.MethodGet, "Authorization"))
	r.Get(EventsPath, g.answer(g.serveEvents))
	r.Options(EventsPath, g.preflight(http.MethodGet, "Authorization, Cache-Control, Last-Event-ID"))
	r.Post("/v1/ack", g.answer(g.postAck))
	r.Options("/v1/ack", g.preflight(http.MethodPost, "Authorization, Content-Type"))
	r.HandleFunc(anything, g.answer(func(_ http.ResponseWriter, request *http.Request) error { return noRoute(r, request) }))
}

const anything = "/v1/*"

// answer makes a handler of one that returns its error.
func (g *Gateway) answer(handle func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := handle(w, r)
		if err == nil {
			return
		}
		if problemFor(err).Status == http.StatusInternalServerError && r.Context().Err() == nil { // the client waits for it
			g.log.Error().Err(err).Str("method", r.Method).Str("path", r.URL.Path).Msg("a request failed")
		}
		writeProblem(w, err)
	}
}

var (
	errOff = problemf(http.StatusForbidden,
		"the HTTP API is off: start the gateway with --api-keys FILE, or with keys in TIDINGS_API_KEY")
	errNoToken     = problemf(http.StatusUnauthorized, "send an API key: Authorization: Bearer KEY")
	errOrigin      = problemf(http.StatusForbidden, "pages of this origin may not ask: start the gateway with --origin for it")
	errNoUserToken = problemf(http.StatusUnauthorized, "send an API key, or the user's own token: Authorization: Bearer KEY")
	errWrongKey    = problemf(http.StatusUnauthorized, "this API key is not good here: use one of those that the gateway has")
	errOtherUser   = problemf(http.StatusForbidden, "the token is another user's: ask for the notifications of its own, or send an API key")
	errNATSIsAway  = &problem{
		Status: http.StatusServiceUnavailable, Detail: "NATS is away: nothing was done, try again in a moment", retryAfter: 2 * time.Second,
	}
	errNobodyAnswered = &problem{
		Status: http.StatusServiceUnavailable, Detail: "no gateway answered, NATS may be away: it is not known what was closed, try again in a moment",
		retryAfter: 2 * time.Second,
	}
)

// admit says why a request is not admitted. It needs a key or, where a user is named, that user's token.
func (g *Gateway) admit(r *http.Request, user string) error {
	keys := g.keys.Load()
	if keys.Len() == 0 && user == "" {
		return errOff
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if user != "" && r.Header.Get("Authorization") == "" {
		scheme, token = "Bearer", g.cookie(r)
	}
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		if user != "" {
			return errNoUserToken
		}
		return errNoToken
	case keys.good(token):
		return nil
	case user == "" || keys.resembles(token):
		if err := g.notFailing(r.RemoteAddr); err != nil {
			return err
		}
		g.failed(r.RemoteAddr)
		return errWrongKey
	}
	identity, err := g.ask(r, token, "")
	if err != nil {
		return err
	}
	if identity.User != user {
		return errOtherUser
	}
	return nil
}

// reachable says at once, rather than after a timeout, that NATS is away.
func (g *Gateway) reachable() error {
	if !g.cfg.NATS.IsConnected() {
		return errNATSIsAway
	}
	return nil
}

// userToManage is the user that the path names, of a request which needs a key, and NATS.
func (g *Gateway) userToManage(r *http.Request) (string, error) {
	if err := g.admit(r, ""); err != nil {
		return "", err
	}
	user, err := userOf(r)
	if err != nil {
		return "", err
	}
	return user, g.reachable()
}

// userOf is the user that the path names.
func userOf(r *http.Request) (string, error) {
	user := chi.URLParam(r, "user")
	if r.URL.RawPath != "" { // then chi has routed by that, and the name is still encoded
		var err error
		if user, err = url.PathUnescape(user); err != nil {
			return "", problemf(http.StatusBadRequest, "the user in the path is encoded wrongly: %s", err)
		}
	}
	return user, checkUser(user)
}

// allowCORS lets pages of the allowed origins read the answer.
func (g *Gateway) allowCORS(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !g.allowed(r) {
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
	if g.cfg.TokenCookie != "" {
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
	return true
}

// preflight tells a browser what pages may ask for.
func (g *Gateway) preflight(method, headers string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !g.allowCORS(w, r) {
			writeProblem(w, g.refusedOrigin(r))
			return
		}
		w.Header().Set("Access-Control-Allow-Methods", method)
		w.Header().Set("Access-Control-Allow-Headers", headers)
		w.Header().Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	}
}

// noRoute says which methods a path has, if any.
func noRoute(routes chi.Routes, r *http.Request) error {
	path := r.URL.Path
	if r.URL.RawPath != "" {
		path = r.URL.RawPath
	}
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if found := routes.Find(chi.NewRouteContext(), method, path); found != "" && found != anything {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 {
		return problemf(http.StatusNotFound, "there is nothing at this path: /v1/openapi.json lists what there is")
	}
	p := problemf(http.StatusMethodNotAllowed, "%.20q is not possible here, but %s is", r.Method, strings.Join(allow, " and "))
	p.allow = allow
	return p
}
