package delivery

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// allowed says whether a browser on the request's origin may connect. What is no browser sends none.
func (g *Gateway) allowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || slices.Contains(g.cfg.Origins, origin) || sameHost(origin, r.Host)
}

// defaultPorts are those that browsers leave out of an origin.
var defaultPorts = map[string]string{"http": ":80", "https": ":443"}

// sameHost reports whether a page of the origin was served from the host, which may name the default port of the page's scheme.
func sameHost(origin, host string) bool {
	scheme, of, _ := strings.Cut(origin, "://")
	port, web := defaultPorts[scheme]
	return web && of != "" && strings.EqualFold(of, strings.TrimSuffix(host, port))
}

// refusedOrigin tells a page of another origin no, and the log for whom: to the page a browser says no more than that it failed.
func (g *Gateway) refusedOrigin(r *http.Request) error {
	g.metrics.limited(limitOrigin)
	origin := r.Header.Get("Origin")
	hint := "a page of this origin was refused: start the gateway with --origin for it"
	if CheckOrigins([]string{origin}) != nil {
		hint = "a page of this origin was refused, and it cannot be allowed: serve the page by HTTP or HTTPS"
	}
	g.oddLog.Warn().Str("origin", origin).Msg(hint)
	return errOrigin
}

// CheckOrigins says what is wrong with a list for Config.Origins: each must be what a browser sends, character by character.
func CheckOrigins(origins []string) error {
	for _, o := range origins {
		switch sent, err := asSent(o); {
		case err != nil:
			return fmt.Errorf("origin %q: %w", o, err)
		case sent != o:
			return fmt.Errorf("origin %q: browsers send %s, write that", o, sent)
		}
	}
	return nil
}

var errOriginForm = errors.New("write scheme and host as the browser does, such as https://app.example, or capacitor://localhost for an app")

// asSent is an origin as browsers send it.
func asSent(origin string) (string, error) {
	if strings.Contains(origin, "*") {
		return "", errors.New("a star matches nothing: name each origin, such as https://app.example")
	}
	if strings.Contains(origin, ",") {
		return "", errors.New("name one origin at a time, such as --origin https://app.example --origin https://www.example")
	}
	u, err := url.Parse(origin)
	switch {
	case origin == "null", err == nil && (u.Scheme == "file" || u.Scheme == "data" || u.Scheme == "blob"):
		return "", errors.New("pages of files and sandboxed frames cannot be told apart, anybody can make one: serve the page by HTTP or HTTPS")
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host, " \t%\\"):
		return "", errOriginForm
	case strings.Trim(u.Path, "/") != "":
		return "", fmt.Errorf("an origin has no path: write %s://%s", u.Scheme, u.Host)
	}
	switch u.Scheme {
	case "http", "https":
		return webOrigin(u)
	case "ws", "wss":
		return "", errors.New("name the page, which has http or https, and not the gateway")
	}
	return u.Scheme + "://" + strings.TrimSuffix(u.Host, ":"), nil // of an app or an extension
}

// webOrigin is that of a page.
func webOrigin(u *url.URL) (string, error) {
	host := strings.ToLower(u.Hostname())
	if address, err := netip.ParseAddr(host); err == nil && address.Is6() {
		host = "[" + address.String() + "]"
	} else if host, err = idna.Lookup.ToASCII(host); err != nil {
		// Lookup knows no underscores, which browsers take.
		if host, err = idna.Punycode.ToASCII(strings.ToLower(u.Hostname())); err != nil || host == "" {
			return "", errOriginForm
		}
	}
	port := ""
	if given := u.Port(); given != "" {
		n, err := strconv.ParseUint(given, 10, 16)
		if err != nil {
			return "", fmt.Errorf("port %s: at most 65535", given)
		}
		port = ":" + strconv.FormatUint(n, 10)
	}
	if port == defaultPorts[u.Scheme] {
		port = ""
	}
	return u.Scheme + "://" + host + port, nil
}
