package delivery

import (
	"slices"
	"sync"
	"time"

	"github.com/tidings-io/tidings/streams"
)

// hub knows the admitted sessions by user.
type hub struct {
	mu    sync.Mutex
	users map[string][]*session
	// disconnects are remembered for as long as an authentication that began before may take, since they count for it too.
	disconnects []disconnect
}

type disconnect struct {
	at     time.Time
	user   string
	device *string // nil: all
	reason string
}

// remembered is longer than an authentication, the wait for it and a look at the stream may take together: 30, 10 and 10 seconds.
const remembered = time.Minute

func newHub() *hub { return &hub{users: map[string][]*session{}} }

// add enters a session whose authentication began at the given time, unless a disconnect has come meanwhile or its user has too many.
func (h *hub) add(s *session, since time.Time) error {
	kind, err := h.enter(s, since)
	if kind != "" { // that is written into the log, for which others should not wait
		return s.g.refuse(kind, s.request.RemoteAddr, "user", s.cursor.User)
	}
	return err
}

func (h *hub) enter(s *session, since time.Time) (kind string, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.disconnects {
		if d.at.After(since) && d.meant(s.cursor) {
			return "", d.closing()
		}
	}
	if most := s.g.cfg.Limits.ConnectionsPerUser; most > 0 && len(h.users[s.cursor.User]) >= most {
		return limitConnectionsPerUser, nil
	}
	h.users[s.cursor.User] = append(h.users[s.cursor.User], s)
	return "", nil
}

func (h *hub) remove(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.users[s.cursor.User]
	if i := slices.Index(of, s); i >= 0 {
		of = slices.Delete(of, i, i+1)
	}
	if len(of) == 0 {
		delete(h.users, s.cursor.User)
	} else {
		h.users[s.cursor.User] = of
	}
}

// count is the number of sessions of a cursor; without a device, of all the user's.
func (h *hub) count(id streams.CursorID) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[id.User] {
		if id.Device == "" || s.cursor == id {
			n++
		}
	}
	return n
}

// size is the number of users with sessions.
func (h *hub) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.users)
}

// disconnect ends the user's sessions, also those that are authenticating, and returns how many there were.
func (h *hub) disconnect(d disconnect) (closed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.at = time.Now()
	for len(h.disconnects) > 0 && d.at.Sub(h.disconnects[0].at) > remembered {
		h.disconnects = h.disconnects[1:]
	}
	h.disconnects = append(h.disconnects, d)
	for _, s := range h.users[d.user] {
		if d.meant(s.cursor) {
			s.end(d.closing())
			closed++
		}
	}
	return closed
}

// each calls do with the sessions of a cursor. It must not wait.
func (h *hub) each(id streams.CursorID, epoch string, do func(*session)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[id.User] {
		if s.cursor == id && s.epoch == epoch {
			do(s)
		}
	}
}

func (d disconnect) meant(id streams.CursorID) bool {
	return d.user == id.User && (d.device == nil || *d.device == id.Device)
}
