package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// session is one connection: a position in the stream, and the subjects it may read. One goroutine hears the client, one writes;
// replay and live delivery are the same loop of the writer.
type session struct {
	// Static after construction.
	g       *Gateway
	line    line
	request auth.Request // its Conn is the session's id
	began   time.Time
	cancel  context.CancelCauseFunc

	// Static after admission.
	entered  bool // the hub knows it
	attached bool // to its cursor
	cursor   streams.CursorID
	epoch    string
	mark     streams.State // of the stream when the client was admitted
	reader   *streams.Reader
	topics   uint64 // topics begin behind this seq
	reset    bool   // the cursor was made anew, and its user is to be told

	// Owned by the reader.
	renewed time.Time // when the client last offered a fresh token

	// Owned by the writer.
	lastMsg   uint64 // seq of the last message read, or where the connection started
	lost      loss   // before the first message, not reported yet
	delivered uint64 // msg frames, those that are held too

	sent    atomic.Uint64 // the largest seq that the client may acknowledge
	acked   atomic.Uint64 // the largest that it has, or that was committed when it came
	posted  atomic.Uint64 // the largest that was acknowledged over HTTP, here, with the same cursor
	told    atomic.Uint64 // the largest that it knows others to have, or needs not be told
	owed    atomic.Uint64 // the first seq of a gap that was written; 0: none, or the client has answered it
	settles atomic.Uint64 // the last seq of the gap at the start, until it is answered; 0: the answer counts for this connection alone
	pings   atomic.Int32  // written and not yet answered
	crossed atomic.Int32  // answers to pings that were written before the last gap
	control chan any      // from the reader to the writer: a wire.Frame, or []streams.Source

	mu    sync.Mutex
	lease lease
	note  *wire.Acked // the newest of other connections, not yet written
	poked chan struct{}

	endBy time.Time // set when the session is cancelled: until then the client may take what is left

	account // owned by the writer, once there is one, unless it says otherwise
}

// line is how a session reaches its client. But for interrupt one goroutine uses it at a time.
type line interface {
	// write has a frame go with the next flush. Who has it, has everything up to the position; 0: it says nothing of that.
	write(frame []byte, position uint64) error
	// holding is how many bytes wait for that.
	holding() int
	// flush sends them, until the deadline or longer by up to the slack. An error that is a timeout leaves of them no more than the rest
	// of a frame that was begun.
	flush(deadline time.Time, slack time.Duration) error
	// drop forgets them, but for such a rest.
	drop()
	// interrupt ends what waits for the client to speak now, and what waits for it to listen at that time.
	interrupt(until time.Time)
	// close says why, after what is held, and waits until then for the client to take it; nil: the client knows.
	close(c *closing, until time.Time)
}

// goodbye is how long a client that is closed has to take it.
const goodbye = time.Second

func newSession(g *Gateway, line line, r *http.Request) *session {
	s := &session{
		g: g, line: line, request: questionFor(r), began: time.Now(), control: make(chan any, 4), poked: make(chan struct{}, 1),
	}
	s.opened()
	return s
}

// questionFor is what the backend is told of a client when it is asked about its token.
func questionFor(r *http.Request) auth.Request {
	return auth.Request{
		Conn: nuid.Next(), RemoteAddr: r.RemoteAddr, Origin: kept(r.Header.Get("Origin")), UserAgent: kept(r.UserAgent()),
	}
}

// about says in the log of whom it speaks. To keep a logger for that would double what an idle session holds.
func (s *session) about(e *zerolog.Event) *zerolog.Event {
	e = e.Str("conn", s.request.Conn).Str("remote", s.request.RemoteAddr)
	if s.cursor.User != "" {
		e = e.Str("user", s.cursor.User).Str("device", s.cursor.Device)
	}
	return e
}

// begin makes the session's context. Over is to be called at its end, with what ended it.
func (s *session) begin(parent context.Context) (ctx context.Context, over func(error)) {
	ctx, s.cancel = context.WithCancelCause(parent)
	s.g.all.enter(s)
	// Whoever cancels ends the read and, after a moment, the write that are under way.
	interrupted := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(interrupted)
		s.endBy = time.Now().Add(goodbye)
		s.line.interrupt(s.endBy)
	})
	return ctx, func(err error) {
		s.cancel(err)
		s.g.all.leave(s)
		s.leave()
		<-interrupted
		s.finish(context.Cause(ctx)) // what came first
	}
}

// end closes the session from outside.
func (s *session) end(c *closing) { s.cancel(c) }

// open authenticates the client, finds its position and answers ready. All of it together has one time limit.
func (s *session) open(ctx context.Context, first wire.Auth) error {
	ctx, cancel := context.WithTimeout(ctx, s.g.cfg.OpenWithin)
	defer cancel()
	identity, err := s.authenticate(ctx, first)
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // nothing is attached for a client that has left
		return context.Cause(ctx)
	}
	cursor, err := s.g.cfg.Cursors.Attach(ctx, s.cursor, s.mark, s.topicsFrom(first))
	if err != nil {
		return err
	}
	s.attached = true
	return s.start(ctx, first, identity, cursor)
}

// authenticate asks whose the token is, and enters the session where disconnects find it.
func (s *session) authenticate(ctx context.Context, first wire.Auth) (auth.Identity, error) {
	if err := checkDevice(first.Device); err != nil {
		return auth.Identity{}, fmt.Errorf("%w: %w", wire.ErrBadFrame, err)
	}
	if damaged(first.User) {
		return auth.Identity{}, fmt.Errorf("%w: user: its encoding is broken, it contains U+FFFD", wire.ErrBadFrame)
	}
	asked := time.Now()
	request := s.request
	request.Token = first.Token
	request.Device = first.Device
	identity, err := s.g.authenticate(ctx, request)
	s.authTook = time.Since(asked)
	if err != nil {
		return identity, err
	}
	if !identity.Asked.IsZero() && identity.Asked.Before(asked) { // for another connection, of which this one has the answer
		asked = identity.Asked
	}
	s.setLease(identity)
	s.request.Device = first.Device
	s.cursor = streams.CursorID{User: identity.User, Device: first.Device}
	// The mark comes after the answer: what the stream holds now, the client gets before live.
	if s.mark, err = s.g.cfg.Tail.Mark(ctx); err != nil {
		return identity, err
	}
	s.epoch = s.mark.Epoch
	if err := s.g.hub.add(s, asked); err != nil {
		return identity, err
	}
	s.entered = true
	s.g.gate.admit(addressOf(request.RemoteAddr))
	return identity, nil
}

// start opens the reader and writes ready. The gap of what may be missing is written with the first read, which tells what follows.
func (s *session) start(ctx context.Context, first wire.Auth, identity auth.Identity, cursor streams.CursorState) error {
	s.topics = min(cursor.TopicsFrom, s.mark.Last) // two who come first at the same time have marks of their own
	sources, err := s.sources(identity)
	if err != nil {
		return err
	}
	after, lost, err := s.position(ctx, first, cursor, sources)
	if err != nil {
		return err
	}
	if s.reader, err = s.g.cfg.Tail.Reader(s.mark, after, sources); err != nil {
		return err
	}
	s.lastMsg, s.lost, s.reset = after, lost, cursor.Reset
	s.sent.Store(after)
	raise(&s.acked, cursor.Seq)
	ready := wire.Ready{
		User: s.cursor.User, Conn: s.request.Conn, Epoch: s.epoch, After: after, Unread: cursor.Unread,
		Ping: s.g.cfg.Ping.Milliseconds(), ExpiresIn: identity.ExpiresIn.Milliseconds(),
	}
	return s.write(ready)
}

// topicsFrom says behind which seq topics begin, for one without a cursor.
func (s *session) topicsFrom(first wire.Auth) uint64 {
	switch {
	case first.User != s.cursor.User || first.After == nil:
		return s.mark.Last // a newcomer
	case first.Epoch == s.epoch:
		return *first.After // somebody has removed the cursor
	default:
		return s.mark.Before() // it went with the old stream
	}
}

// sources are what the identity may read. A topic that cannot be named admits nobody.
func (s *session) sources(identity auth.Identity) ([]streams.Source, error) {
	own, err := streams.UserSubject(identity.User)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrBadReply, err)
	}
	sources := []streams.Source{{Subject: own}}
	for _, topic := range identity.Topics {
		subject, err := streams.TopicSubject(topic)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", auth.ErrBadReply, err)
		}
		sources = append(sources, streams.Source{Subject: subject, After: s.topics})
	}
	return sources, nil
}

// leave undoes what admit did.
func (s *session) leave() {
	if s.entered {
		s.g.hub.remove(s)
	}
	if s.reader != nil {
		s.carry()
		s.reader.Close()
	}
	if s.attached {
		s.g.cfg.Cursors.Detach(s.cursor, s.epoch)
	}
}

// carry moves the cursor with the stream while nothing of the user's is outstanding, not even the word of a gap.
func (s *session) carry() {
	if s.state == live && max(s.acked.Load(), s.posted.Load()) >= s.lastMsg {
		at := s.reader.Position()
		raise(&s.told, at)
		if s.owed.Load() > 0 {
			return
		}
		if s.reset { // this client has been told, and the next need not be
			s.g.cfg.Cursors.Ack(s.cursor, s.epoch, at)
		}
		s.g.cfg.Cursors.Carry(s.cursor, s.epoch, at)
	}
}

// finish tells the client why, unless it was the client who ended it, and the log.
func (s *session) finish(err error) {
	var theirs *websocket.CloseError
	switch {
	case errors.As(err, &theirs) && theirs.Code != websocket.CloseAbnormalClosure:
		s.release(0)
		s.ended(theirs.Code, byClient, theirs)
		s.line.close(nil, s.endBy)
	case errors.Is(err, errClientGone):
		s.ended(websocket.CloseAbnormalClosure, byNetwork, err)
		s.line.close(nil, time.Now())
	default:
		c := closingFor(err)
		s.release(c.code)
		s.ended(int(c.code), byGateway, err)
		s.line.close(c, s.endBy)
	}
}

// release sends what was read, and not yet sent, before the session is closed: to one who was disconnected nothing, and to nobody after
// the end of the lease. Who has heard nothing yet is to hear why first, as the status of an answer may say it.
func (s *session) release(code wire.CloseCode) {
	lease, until := s.currentLease(), s.endBy
	within := !lease.end.IsZero() && lease.end.Before(until)
	if within {
		until = lease.end
	}
	disconnected := code == wire.CloseDisconnected
	if held := s.line.holding(); held > 0 && s.bytes > 0 && !disconnected && !lease.over(time.Now()) {
		if s.line.flush(until, 0) == nil {
			s.noteFlush(held)
		}
	}
	if within || disconnected {
		s.line.drop()
	}
}
