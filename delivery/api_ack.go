package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tidings-io/tidings/streams"
)

var errNoCredential = problemf(http.StatusUnauthorized, "send your token: Authorization: Bearer TOKEN")

// credential is the token that a client's request brings, as a header or, where the gateway was told of one, as a cookie. Never in the
// address, which is written into logs.
func (g *Gateway) credential(r *http.Request) (string, error) {
	if !g.allowed(r) {
		return "", g.refusedOrigin(r)
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && token != "" {
		return token, nil
	}
	if token := g.cookie(r); token != "" {
		return token, nil
	}
	return "", errNoCredential
}

// cookie is the token in the cookie that --token-cookie names; empty: there is none. A browser sends it whoever made the page: from
// another site, which a browser that says so does not name in each request, it does not count.
func (g *Gateway) cookie(r *http.Request) string {
	if g.cfg.TokenCookie == "" || !g.allowed(r) {
		return ""
	}
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	switch {
	case slices.Contains(g.cfg.Origins, origin):
	case origin != "" && site != "same-origin": // the same host, but perhaps by http, where others can write the page
		return ""
	case site != "" && site != "same-origin" && site != "none":
		return ""
	}
	c, err := r.Cookie(g.cfg.TokenCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// maxAcknowledgement is more bytes than one can need.
const maxAcknowledgement = 4 << 10

// acknowledgement is the body of POST /v1/ack.
type acknowledgement struct {
	epoch  string
	seq    uint64
	device string
}

func decodeAcknowledgement(body []byte) (a acknowledgement, err error) {
	fields, err := decodeObject(body)
	if err != nil {
		return a, err
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch name {
		case "epoch":
			a.epoch, err = decodeString(name, fields[name])
		case "device":
			if a.device, err = decodeString(name, fields[name]); err == nil {
				err = checkDevice(a.device)
			}
		case "seq":
			if json.Unmarshal(fields[name], &a.seq) != nil || string(fields[name]) == "null" {
				err = problemf(http.StatusBadRequest, "seq must be the seq of what you have, a number")
			}
		default:
			err = problemf(http.StatusBadRequest, "unknown field %.40q: there are epoch, seq and device", name)
		}
		if err != nil {
			return a, err
		}
	}
	if a.epoch == "" || fields["seq"] == nil {
		return a, problemf(http.StatusBadRequest, `say what you have: {"epoch":"…","seq":105}, with the epoch that ready told`)
	}
	return a, nil
}

// postAck moves the position of whoever the token admits, as an ack frame would.
func (g *Gateway) postAck(w http.ResponseWriter, r *http.Request) error {
	g.allowCORS(w, r)
	token, err := g.credential(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, maxAcknowledgement)
	if err != nil {
		return err
	}
	a, err := decodeAcknowledgement(body)
	if err != nil {
		return err
	}
	if err := g.reachable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.OpenWithin)
	defer cancel()
	identity, err := g.ask(r, token, a.device)
	if err != nil {
		return err
	}
	mark, err := g.cfg.Tail.Mark(ctx)
	switch {
	case err != nil:
		return err
	case a.epoch != mark.Epoch:
		return problemf(http.StatusConflict, "this is not the stream's epoch, which ready and each id tell: where the stream was replaced, connect again, and the gap tells from where on you are")
	case a.seq > mark.Last:
		return problemf(http.StatusConflict, "%d lies past the stream's end: acknowledge what you were sent", a.seq)
	}
	id := streams.CursorID{User: identity.User, Device: a.device}
	// Only a connection makes a position, so that who was forgotten stays so.
	if _, _, found, err := g.cfg.Stream.Users().Find(ctx, id); err != nil || !found {
		return cmp.Or(err, error(problemf(http.StatusNotFound, "%.60q has no position to move: connect first", id.String())))
	}
	cursor, err := g.cfg.Cursors.Attach(ctx, id, mark, mark.Last)
	if err != nil {
		return err
	}
	if a.seq > cursor.Seq {
		g.metrics.acksHTTP.Inc()
	}
	g.cfg.Cursors.Ack(id, mark.Epoch, a.seq)
	g.hub.each(id, mark.Epoch, func(s *session) {
		raise(&s.posted, a.seq)
		s.answered(a.seq)
	})
	g.cfg.Cursors.Detach(id, mark.Epoch)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
