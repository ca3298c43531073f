package streams

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sort"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// auditSubject is where the server tells of every request to its API. Of what was purged or deleted in the midst of the stream
// it tells nowhere else: no number of the stream's state says which.
const auditSubject = "$JS.EVENT.ADVISORY.API"

// removal is what an operator has removed: one message, or the oldest of all whose subject matches the filter.
type removal struct {
	seq    uint64
	filter string
}

// removals returns a channel of what is removed, for as long as ctx lives. It is best effort: what is removed while NATS is
// away, or where this user may not subscribe to the audit, is delivered from memory until it leaves it.
func (t *Tail) removals(ctx context.Context) (_ <-chan removal, unsubscribe func(), err error) {
	found := make(chan removal, 16)
	sub, err := t.stream.nc.Subscribe(auditSubject, func(msg *nats.Msg) {
		if what, ok := t.stream.removal(msg.Data); ok {
			select {
			case found <- what:
			case <-ctx.Done():
			}
		}
	})
	return found, func() { _ = sub.Unsubscribe() }, err
}

// removal reads a message of the audit.
func (s *Stream) removal(data []byte) (what removal, ok bool) {
	purge, remove := "$JS.API.STREAM.PURGE."+s.name, "$JS.API.STREAM.MSG.DELETE."+s.name
	if !bytes.Contains(data, []byte(purge)) && !bytes.Contains(data, []byte(remove)) {
		return what, false // most of them: our own commits
	}
	var audit struct{ Subject, Request string }
	var request struct {
		Seq    uint64
		Filter string
	}
	if json.Unmarshal(data, &audit) != nil {
		return what, false
	}
	_ = json.Unmarshal([]byte(audit.Request), &request) // empty to purge all
	switch audit.Subject {
	case purge:
		if request.Filter == "" {
			request.Filter = ">"
		}
		return removal{filter: request.Filter}, true
	case remove:
		return removal{seq: request.Seq}, true
	}
	return what, false
}

// remove makes the ring forget what the stream did. Of a purge, which may have left the newest, the stream itself says how far it
// went.
func (t *Tail) remove(ctx context.Context, r *ring, what removal) error {
	if what.seq > 0 { // the server tells of what it refused too
		m, found, err := t.stream.leaderNext(ctx, ">", what.seq-1)
		if err == nil && (!found || m.Seq != what.seq) {
			r.remove(what.seq)
		}
		return err
	}
	through := r.position()
	m, found, err := t.stream.leaderNextSure(ctx, what.filter, 0)
	for errors.Is(err, errDisputed) { // an old leader might not have what came after the purge
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(appliedWithin):
		}
		m, found, err = t.stream.leaderNextSure(ctx, what.filter, 0)
	}
	if err != nil {
		return err
	}
	if found {
		through = min(through, m.Seq-1)
	}
	r.purge(what.filter, through)
	return nil
}

// remove marks the message of the seq as deleted.
func (r *ring) remove(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := int(r.next - r.first)
	i := sort.Search(n, func(i int) bool { return r.at(r.first+uint64(i)).seq >= seq })
	if i == n {
		return
	}
	if e := r.at(r.first + uint64(i)); e.seq == seq {
		e.expires = 1
	}
}

// purge marks the messages up to a seq of every subject that the filter names as deleted, and has its readers know.
func (r *ring) purge(filter string, through uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.matching(filter) {
		for _, reader := range r.list[id].readers {
			reader.purged.Store(true)
			reader.wake()
		}
		for i := r.list[id].first; i != 0 && r.at(i).seq <= through; i = r.at(i).next {
			r.at(i).expires = 1
		}
	}
}

func (r *ring) matching(filter string) (ids []uint32) {
	if id, ok := r.chains[filter]; ok {
		return []uint32{id}
	}
	if !strings.ContainsAny(filter, "*>") {
		return nil
	}
	want := strings.Split(filter, ".")
	for subject, id := range r.chains {
		if matches(strings.Split(subject, "."), want) {
			ids = append(ids, id)
		}
	}
	return ids
}

// matches says whether a subject is one of those that a filter names, both by their tokens.
func matches(subject, filter []string) bool {
	for i, want := range filter {
		if want == ">" {
			return i < len(subject)
		}
		if i == len(subject) || want != "*" && want != subject[i] {
			return false
		}
	}
	return len(subject) == len(filter)
}
