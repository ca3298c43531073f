package delivery

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// EventsPath is where a client that only listens gets the frames as server-sent events.
const EventsPath = "/v1/sse"

const eventStream = "text/event-stream"

// events is the line to a client that hears server-sent events (HTML Standard, 9.2). An event is a frame, named by its type. Its id is a
// position, with which the client comes again; pings are comments.
type events struct {
	s     *session
	w     http.ResponseWriter
	out   *http.ResponseController
	until atomic.Pointer[time.Time] // no write is longer
	held  []byte
	user  string // encoded, in the ids, so that in a shared browser nobody goes on at another's place
	begun bool   // the client has been told that it is admitted
	// endless is an EventSource, which takes an answer other than 200 for final: what passes it hears as an event.
	endless bool
}

// serveEvents serves a client until it goes, or the session ends.
func (g *Gateway) serveEvents(w http.ResponseWriter, r *http.Request) error {
	g.allowCORS(w, r)
	if r.ContentLength != 0 { // one that never came would be waited for
		w.Header().Set("Connection", "close")
		return problemf(http.StatusBadRequest, "a body says nothing here: send none")
	}
	token, err := g.credential(r)
	if err != nil {
		return err
	}
	first, err := resume(r)
	if err != nil {
		return err
	}
	first.Token = token
	e := &events{w: w, out: http.NewResponseController(w), endless: strings.Contains(r.Header.Get("Accept"), eventStream)}
	if err := g.enter(r); err != nil {
		e.close(closingFor(err), time.Now().Add(goodbye))
		return nil
	}
	g.made.Add(1)
	e.s = newSession(g, e, r)
	clear(r.Header) // the server keeps the request for as long as this lasts
	defer func() { g.leave(e.s.request.RemoteAddr, e.s.entered) }()
	ctx, over := e.s.begin(g.ctx)
	gone := context.AfterFunc(r.Context(), func() { e.s.cancel(errClientGone) })
	defer gone()
	err = e.s.open(ctx, first)
	if err == nil {
		err = e.s.writeLoop(ctx)
	}
	over(err)
	return nil
}

// resume is what the client knows from before: the id of the last event, and the name of its device.
func resume(r *http.Request) (wire.Auth, error) {
	first := wire.Auth{Device: r.URL.Query().Get("device")}
	if err := checkDevice(first.Device); err != nil {
		return first, err
	}
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		return first, nil
	}
	if part := strings.Split(id, "."); len(part) == 3 {
		after, err := strconv.ParseUint(part[1], 10, 64)
		user, wrong := streams.DecodeToken(part[2])
		if err == nil && wrong == nil {
			first.Epoch, first.After, first.User = part[0], &after, user
			return first, nil
		}
	}
	return first, problemf(http.StatusBadRequest, "Last-Event-ID %.100q is not the id of an event: send that of the last one, or none", id)
}

func (e *events) write(frame []byte, position uint64) error {
	const lead = `{"type":"`
	kind, _, _ := bytes.Cut(frame[len(lead):], []byte{'"'})
	ping := string(kind) == "ping"
	if ping {
		e.held = append(e.held, ": ping\n"...)
	} else {
		e.held = fmt.Appendf(e.held, "event: %s\n", kind)
	}
	if position > 0 || string(kind) == "ready" { // which says where to go on, be it at the beginning
		if e.user == "" {
			e.user, _ = streams.EncodeToken(e.s.cursor.User) // it has been a subject's before
		}
		e.held = fmt.Appendf(e.held, "id: %s.%d.%s\n", e.s.epoch, position, e.user)
	}
	if !ping {
		e.held = append(append(append(e.held, "data: "...), frame...), '\n')
	}
	e.held = append(e.held, '\n')
	return nil
}

func (e *events) holding() int { return len(e.held) }

func (e *events) flush(deadline time.Time, slack time.Duration) error {
	_ = e.out.SetWriteDeadline(deadline.Add(slack))
	if until := e.until.Load(); until != nil && until.Before(deadline.Add(slack)) {
		_ = e.out.SetWriteDeadline(*until)
	}
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		h.Set("Content-Type", eventStream)
		h.Set("Cache-Control", "no-store, no-transform") // who compresses would gather events first
		h.Set("X-Accel-Buffering", "no")                 // of nginx
		e.w.WriteHeader(http.StatusOK)
	}
	_, err := e.w.Write(e.held)
	e.held = e.held[:0]
	if cap(e.held) > 4<<10 {
		e.held = nil
	}
	if err == nil {
		err = e.out.Flush()
	}
	return err
}

func (e *events) drop() { e.held = e.held[:0] }

func (e *events) interrupt(until time.Time) {
	e.until.Store(&until)
	_ = e.out.SetWriteDeadline(until)
}

// close says why, as an answer of HTTP where there was none yet. The server ends the response.
func (e *events) close(why *closing, until time.Time) {
	if why == nil {
		return
	}
	retry := why.retry().Milliseconds()
	if !e.begun && (retry == 0 || !e.endless) {
		writeProblem(e.w, why)
		return
	}
	if retry > 0 {
		retry = max(retry, time.Second.Milliseconds())
		e.held = fmt.Appendf(e.held, "retry: %d\n", retry)
	}
	_ = e.write(wire.Append(nil, wire.Goaway{Code: why.code, Reason: why.reason, RetryAfter: retry}), 0)
	_ = e.flush(until, 0)
}
