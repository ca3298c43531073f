// Package verify drives a running Tidings by use, and says what does not hold.
//
// A Publisher stores numbered notifications and records which of them were acknowledged. A Client connects as a user does, comes
// again whenever it is cut off, and records every frame. Both write into a Log, which compares what was promised with what was
// seen: nothing lost, nothing foreign, nothing out of order, nothing twice, no word of the gateway that was not true. What lies
// between them (gateways, servers, networks) may be killed, paused and replaced meanwhile.
//
// Whoever reads a user's notifications by the same cursor must write into the same Log: what one acknowledges counts as read for
// all.
package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// Log is what happened: what publishers were promised and what clients saw. It is safe for concurrent use; the zero value is
// ready.
type Log struct {
	once  sync.Once
	began time.Time

	mu         sync.Mutex
	published  []publication
	acks       []int32          // indices of published, in the order in which they were acknowledged
	byID       map[string]int32 // index of published
	publishers map[string]bool
	epochs     []epoch
	replaced   []moment
	clients    []*Client
	cursors    map[cursorID]*cursor
}

// moment is a time since the Log began, by the monotonic clock; 0: never.
type moment time.Duration

func (m moment) String() string {
	if m == 0 {
		return "never"
	}
	return fmt.Sprintf("%.3fs", time.Duration(m).Seconds())
}

// epoch is one that a client was told of, in the order of their first sight.
type epoch struct {
	name string
	from moment
}

type cursorID struct{ user, device string }

// cursor is what clients learned of the position that they share.
type cursor struct {
	clients []*Client
	in      map[int]*cursorBegin // by the index of the epoch
}

// cursorBegin bounds where the topics of a cursor begin in an epoch: nothing that was published after the first ready lies
// before it, nor anything behind the live of a connection that came later.
type cursorBegin struct {
	ready moment // the first
	live  uint64 // the least seq, if
	known bool
	whole bool // they begin with the stream: the cursor's clients had been in an epoch before
}

func (l *Log) now() moment {
	l.once.Do(func() { l.began = time.Now() })
	return moment(max(1, time.Since(l.began)))
}

// Replaced says that the stream is about to be replaced: what was stored until now may be gone, and a client that did not have it
// must be told by a gap.
func (l *Log) Replaced() {
	at := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replaced = append(l.replaced, at)
}

// Removed says that notifications with these ids were deleted, have expired or were evicted on purpose: nobody must have them.
func (l *Log) Removed(id ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range id {
		if i, ok := l.byID[id]; ok {
			l.published[i].removed = true
		}
	}
}

// Stats count what happened.
type Stats struct {
	Attempted, Acknowledged int                    // notifications
	Connections             int                    // that were admitted
	Messages                int                    // msg frames
	Repeats                 int                    // of them, those that their clients dropped
	Acked                   int                    // acked frames
	Live                    int                    // live frames
	Gaps                    map[string]int         // by reason
	Closes                  map[wire.CloseCode]int // connections that ended otherwise than by their clients; 1006: without a close frame
	Goaways                 []wire.Goaway
}

func (s Stats) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d publishes acknowledged; %d connections, %d live; %d messages, %d of them repeats; %d acked",
		s.Acknowledged, s.Attempted, s.Connections, s.Live, s.Messages, s.Repeats, s.Acked)
	for _, reason := range slices.Sorted(maps.Keys(s.Gaps)) {
		fmt.Fprintf(&b, "; %d gaps %s", s.Gaps[reason], reason)
	}
	for _, code := range slices.Sorted(maps.Keys(s.Closes)) {
		fmt.Fprintf(&b, "; %d closed with %s", s.Closes[code], code)
	}
	return b.String()
}

// Stats returns what happened until now.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	s := Stats{
		Attempted: len(l.published), Acknowledged: len(l.acks),
		Gaps: map[string]int{}, Closes: map[wire.CloseCode]int{},
	}
	clients := slices.Clone(l.clients)
	l.mu.Unlock()
	for _, c := range clients {
		c.mu.Lock()
		s.Repeats += c.repeats
		for _, conn := range c.conns {
			conn.count(&s)
		}
		c.mu.Unlock()
	}
	return s
}
