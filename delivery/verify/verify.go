// Package verify publishes to and reads from a running Tidings, and checks that its guarantees hold.
//
// A Publisher publishes numbered notifications and records which of them were acknowledged. A Client connects as a
// user, reconnects whenever its connection ends, and records every frame. Both write to a Log, which compares what was
// acknowledged with what was delivered: nothing is lost, goes to a wrong user, is out of order or delivered twice, and
// what the gateway reports is true. Meanwhile a test may kill, pause and replace everything in between: gateways, NATS
// servers and networks.
//
// All clients with the same user and device share a stored position, so they must write to the same Log: what one of
// them acknowledges counts as read for all.
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

// Log records what publishers published and what clients received. It is safe for concurrent use. The zero value is
// ready to use.
type Log struct {
	once  sync.Once
	began time.Time

	mu         sync.Mutex
	published  []publication
	acks       []int32          // indices in published, in the order of acknowledgement
	byID       map[string]int32 // indices in published
	publishers map[string]bool
	epochs     []epoch
	replaced   []moment
	clients    []*Client
	positions  map[positionID]*storedPosition
}

// moment is a time since the Log began, by the monotonic clock; 0: never.
type moment time.Duration

func (m moment) String() string {
	if m == 0 {
		return "never"
	}
	return fmt.Sprintf("%.3fs", time.Duration(m).Seconds())
}

// epoch is an epoch of the stream, and when a client first received it in a ready frame.
type epoch struct {
	name string
	from moment
}

type positionID struct{ user, device string }

// storedPosition is what is known about the position that the clients of a user, or of a device, share.
type storedPosition struct {
	clients []*Client
	start   map[int]*topicStart // by index of the epoch
}

// topicStart limits where the topics of a stored position start in an epoch. They include everything that was published
// after the first ready frame, and everything past the seq of a live frame of a later connection.
type topicStart struct {
	ready moment // of the first ready frame
	live  uint64 // the smallest seq of such a live frame, if known
	known bool
	whole bool // they start at the beginning of the stream, because a client came with the position of an earlier epoch
}

func (l *Log) now() moment {
	l.once.Do(func() { l.began = time.Now() })
	return moment(max(1, time.Since(l.began)))
}

// Replaced declares that the stream is about to be replaced. Everything stored so far may be lost, and a client that
// had not received it must receive a gap.
func (l *Log) Replaced() {
	at := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replaced = append(l.replaced, at)
}

// Removed declares that the notifications with these ids were deleted, have expired or were evicted on purpose. No
// client need receive them.
func (l *Log) Removed(id ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range id {
		if i, ok := l.byID[id]; ok {
			l.published[i].removed = true
		}
	}
}

// Stats counts what a Log has recorded.
type Stats struct {
	Attempted, Acknowledged int                    // notifications
	Connections             int                    // connections that received ready
	Messages                int                    // msg frames
	Repeats                 int                    // msg frames that clients dropped because of their seq
	Acked                   int                    // acked frames
	Live                    int                    // live frames
	Gaps                    map[string]int         // gap frames by reason
	Closes                  map[wire.CloseCode]int // connections not closed by their clients; 1006: no close frame
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

// Stats returns the current counts.
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
