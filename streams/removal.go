package streams

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// auditSubject is where the server tells of every request to its API. Of what was purged or deleted in the midst of the stream
// it tells nowhere else: no number of the stream's state says which.
const auditSubject = "$JS.EVENT.ADVISORY.API"

const removalsAtOnce = 64

// removal is what an operator has removed: one message, the oldest of all whose subject matches the filter, or the whole stream.
type removal struct {
	seq    uint64
	filter string
	stream bool
}

// removalWatch takes what is removed while one ring is followed.
type removalWatch struct {
	found chan removal
	done  <-chan struct{}
}

// watchAudit subscribes to the audit until it is stopped: removals go to the present watch, and the deletion of the stream is noted
// in t.deleted.
func (t *Tail) watchAudit() (stop func(), err error) {
	sub, err := t.stream.nc.Subscribe(auditSubject, func(msg *nats.Msg) {
		what, ok := t.stream.removal(msg.Data)
		switch watch := t.removals.Load(); {
		case !ok:
		case what.stream:
			select {
			case t.deleted <- struct{}{}:
			default:
			}
		case watch != nil:
			select {
			case watch.found <- what:
			case <-watch.done:
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", auditSubject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// watchRemovals makes the ring forget what is removed, until it is stopped. It is best effort: what is
// removed while NATS is away, or where this user may not subscribe to the audit, is delivered from memory until it leaves it.
func (t *Tail) watchRemovals(ctx context.Context, r *ring) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	watch := &removalWatch{found: make(chan removal, 16), done: ctx.Done()}
	t.removals.Store(watch)
	var all errgroup.Group // it takes seconds to be sure of one, where the stream has replicas
	all.SetLimit(removalsAtOnce)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case what := <-watch.found:
				all.Go(func() error { t.remove(ctx, r, what); return nil })
			}
		}
	}()
	return func() {
		t.removals.Store(nil)
		cancel()
		<-done
		_ = all.Wait()
	}
}

// removal reads a message of the audit.
func (s *Stream) removal(data []byte) (what removal, ok bool) {
	purge, remove, stream := "$JS.API.STREAM.PURGE."+s.name, "$JS.API.STREAM.MSG.DELETE."+s.name, "$JS.API.STREAM.DELETE."+s.name
	if !bytes.Contains(data, []byte(purge)) && !bytes.Contains(data, []byte(remove)) && !bytes.Contains(data, []byte(stream)) {
		return what, false // most of them: our own commits
	}
	var audit struct{ Subject, Request, Response string }
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
	case stream:
		return removal{stream: true}, strings.Contains(audit.Response, `"success":true`)
	}
	return what, false
}

// remove makes the ring forget what the stream did. It tries until it is sure of it.
func (t *Tail) remove(ctx context.Context, r *ring, what removal) {
	for ctx.Err() == nil && t.tryRemove(ctx, r, what) != nil {
		_ = pause(ctx, appliedWithin) // whose end the loop sees
	}
}

// tryRemove asks the stream itself how far a purge went, which may have left the newest, and what it no longer has.
func (t *Tail) tryRemove(ctx context.Context, r *ring, what removal) error {
	if what.seq > 0 { // the server tells of what it refused too
		m, found, err := t.stream.leaderNext(ctx, ">", what.seq-1)
		if err == nil && (!found || m.Seq != what.seq) {
			r.remove(what.seq)
		}
		return err
	}
	through := r.position()
	m, found, err := t.stream.leaderNextSure(ctx, what.filter, 0) // an old leader might not have what came after the purge
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
	if i := r.search(seq); i < r.next && r.at(i).seq == seq {
		r.at(i).expires = deleted
	}
}

// purge marks the messages up to a seq of every subject that the filter names as deleted, and has its readers know.
func (r *ring) purge(filter string, through uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now().UnixNano()
	for _, id := range r.matching(filter) {
		for _, reader := range r.list[id].readers {
			reader.purged.Store(max(through, reader.purged.Load())) // together with Purged at worst a larger range
			reader.wake()
		}
		for i := r.list[id].first; i != 0 && r.at(i).seq <= through; i = r.at(i).next {
			if e := r.at(i); !e.removed(now) {
				e.expires = purged
			}
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
