package delivery

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/tidings-io/tidings/streams"
)

// userState is the answer about a user.
type userState struct {
	User        string     `json:"user"`
	Device      string     `json:"device,omitempty"`
	Position    *uint64    `json:"position"` // null: there is none, or only one of an epoch that is over
	Unread      uint64     `json:"unread"`
	Epoch       string     `json:"epoch"`
	Since       *time.Time `json:"since"`
	Connections int        `json:"connections"`
}

// getUser tells what `tidings users` does of one user, or of a device, and the connections at this gateway.
func (g *Gateway) getUser(w http.ResponseWriter, r *http.Request) error {
	user, err := g.userToManage(r)
	if err != nil {
		return err
	}
	id := streams.CursorID{User: user, Device: r.URL.Query().Get("device")}
	if err := checkDevice(id.Device); err != nil {
		return err
	}
	cursor, epoch, found, err := g.cfg.Stream.Users().Find(r.Context(), id)
	if err != nil {
		return err
	}
	state := userState{User: user, Device: id.Device, Unread: cursor.Unread, Epoch: epoch, Connections: g.hub.count(id)}
	if found {
		state.Since = &cursor.Created
	}
	if found && !cursor.Over {
		state.Position = &cursor.Seq
	} else { // what waits is all that there is
		subject, _ := streams.UserSubject(user) // checked
		if state.Unread, err = g.cfg.Stream.Count(r.Context(), subject); err != nil {
			return err
		}
	}
	if !found && state.Connections == 0 && (id.Device != "" || state.Unread == 0) {
		return problemf(http.StatusNotFound, "%.60q has never connected, and nothing waits: is the name spelled as your backend does?", id.String())
	}
	writeJSON(w, http.StatusOK, "application/json", state)
	return nil
}

type closedConnections struct {
	Closed   int `json:"closed"`
	Gateways int `json:"gateways"`
}

// deleteConnections closes a user's connections, or a device's, at every gateway.
func (g *Gateway) deleteConnections(w http.ResponseWriter, r *http.Request) error {
	user, err := g.userToManage(r)
	if err != nil {
		return err
	}
	var device *string
	query := r.URL.Query()
	if query.Has("device") {
		name := query.Get("device")
		if err := checkDevice(name); err != nil {
			return err
		}
		device = &name
	}
	closed, gateways, err := Disconnect(r.Context(), g.cfg.NATS, user, device, query.Get("reason"))
	if err != nil {
		return err
	}
	if gateways == 0 { // not even this one
		return errNobodyAnswered
	}
	writeJSON(w, http.StatusOK, "application/json", closedConnections{Closed: closed, Gateways: gateways})
	return nil
}

// Of a page of notifications.
const (
	pageDefault = 20
	pageMost    = 100
	pageBytes   = 1 << 20 // of data; one message is a page, however large
)

type page struct {
	Epoch         string            `json:"epoch"`
	Notifications []json.RawMessage `json:"notifications"` // msg frames
	Before        uint64            `json:"before,omitempty"`
}

// getNotifications tells what the stream holds on a user's own subject, the newest first.
func (g *Gateway) getNotifications(w http.ResponseWriter, r *http.Request) error {
	g.allowCORS(w, r)
	user, err := userOf(r)
	if err != nil {
		return err
	}
	if err := g.admit(r, user); err != nil {
		return err
	}
	limit, err := number(r, "limit", pageDefault, pageMost)
	if err != nil {
		return err
	}
	before, err := number(r, "before", 0, 1<<63)
	if err != nil {
		return err
	}
	if err := g.reachable(); err != nil {
		return err
	}
	subject, _ := streams.UserSubject(user) // checked
	found, err := g.cfg.Stream.Newest(r.Context(), subject, before, int(limit), pageBytes)
	if err != nil {
		return err
	}
	answer := page{Epoch: found.Epoch, Notifications: []json.RawMessage{}}
	for i := range found.Messages {
		answer.Notifications = append(answer.Notifications, Encode(nil, &found.Messages[i]))
		if found.More {
			answer.Before = found.Messages[i].Seq
		}
	}
	writeJSON(w, http.StatusOK, "application/json", answer)
	return nil
}

// number reads one from 1 to most out of the query.
func number(r *http.Request, name string, otherwise, most uint64) (uint64, error) {
	if !r.URL.Query().Has(name) {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(r.URL.Query().Get(name), 10, 64)
	if err != nil || n < 1 || n > most {
		return 0, problemf(http.StatusBadRequest, "%s must be a whole number from 1 to %d", name, most)
	}
	return n, nil
}
