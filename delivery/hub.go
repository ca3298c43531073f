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

// add enters a session whose authentication began at the given time, unless a disconnect has come meanwhile: then it returns that.
func (h *hub) add(s *session, since time.Time) (disconnect, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.disconnects {
		if d.at.After(since) && d.meant(s.cursor) {
			return d, true
		}
	}
	h.users[s.cursor.User] = append(h.users[s.cursor.User], s)
	return disconnect{}, false
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

func (h *hub) count(user string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.users[user])
}

// countOf is the number of sessions of a cursor; without a device, of all the user's.
func (h *hub) countOf(id streams.CursorID) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[id.User] {
		if id.Device == "" || s.cursor == id {
			n++
		}
	}
	return n
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

// posted notes for the sessions of a cursor how far it was acknowledged over HTTP.
func (h *hub) posted(id streams.CursorID, epoch string, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[id.User] {
		if s.cursor == id && s.epoch == epoch {
			raise(&s.posted, seq)
		}
	}
}

// acked tells the sessions of a cursor how far it has moved.
func (h *hub) acked(id streams.CursorID, epoch string, seq, unread uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[id.User] {
		if s.cursor == id && s.epoch == epoch {
			s.tellAcked(seq, unread)
		}
	}
}

func (d disconnect) meant(id streams.CursorID) bool {
	return d.user == id.User && (d.device == nil || *d.device == id.Device)
}
