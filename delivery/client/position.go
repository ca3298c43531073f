package client

import (
	"sync"

	"github.com/tidings-io/tidings/delivery/wire"
)

// Position is how far a client has got: all messages up to Seq, of that user and epoch. Seq has no
// meaning without the other two.
type Position struct {
	User  string `json:"user"`
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// ackBatch is the maximum number of acknowledgements that are combined.
const ackBatch = 16

// progress tracks what was received, handled and acknowledged.
type progress struct {
	manual bool // Config.ManualAck; not changed after newProgress
	// wake gets a value, without blocking, when there is something to acknowledge.
	wake chan struct{} // not changed after newProgress

	// Guarded by mu.
	mu sync.Mutex
	// settled is the result of Client.Position: nothing is left to do up to it.
	settled Position
	// handled is the last seq for which OnMessage returned nil, or up to which the server had
	// nothing for this client. It is sent as "after". It can be ahead of settled only with
	// ManualAck.
	handled uint64
	// started is the last message that was passed to OnMessage and has not failed; startedBefore is
	// the one before it.
	started, startedBefore uint64
	// ack is the seq to acknowledge; 0: none yet.
	ack     uint64
	waiting int // acknowledgements since the last one that was sent

	// Of the current connection.
	received  uint64 // an ack beyond it would be an error
	acked     uint64
	answerGap bool // a gap was handled and must be answered
}

func newProgress(manual bool, resume *Position) *progress {
	p := &progress{manual: manual, wake: make(chan struct{}, 1)}
	if resume != nil {
		p.restart(*resume)
	}
	return p
}

func (p *progress) position() Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settled
}

// resume returns the position after which the next connection should start. If its epoch is empty,
// the server decides.
func (p *progress) resume() Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Position{User: p.settled.User, Epoch: p.settled.Epoch, Seq: p.handled}
}

// connected resets what belongs to one connection.
func (p *progress) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received, p.acked, p.answerGap = 0, 0, false
}

// ready processes the server's ready frame: the user, the epoch, and where the connection starts. A
// lower start in the same epoch means that an older copy of the stream was restored: its next
// messages reuse numbers, and are not repeats. The last acknowledgement is sent again, because it
// may not have arrived.
func (p *progress) ready(r wire.Ready) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled.User != r.User || p.settled.Epoch != r.Epoch || r.After < p.handled {
		p.restart(Position{User: r.User, Epoch: r.Epoch, Seq: r.After})
	}
	p.receive(r.After)
}

// start reports whether the message must be handled. It returns false for repeats.
func (p *progress) start(seq uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receive(seq)
	if seq <= p.handled {
		return false
	}
	p.startedBefore, p.started = p.started, seq
	return true
}

// done records the result of handling the message that was passed to start.
func (p *progress) done(seq uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !ok {
		p.started = p.startedBefore
		return
	}
	p.handled = seq
	if !p.manual {
		p.settle(seq)
	}
}

// advanceIdle moves the position to seq, up to which the server has nothing outstanding.
func (p *progress) advanceIdle(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receive(seq)
	p.handled = max(p.handled, seq)
	if p.settled.Seq >= p.started {
		p.settled.Seq = max(p.settled.Seq, seq)
	}
}

// acknowledge records that the caller has finished everything up to seq. A seq that OnMessage has
// not got yet is ignored.
func (p *progress) acknowledge(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.manual && seq <= p.started {
		p.settle(seq)
	}
}

// gapHandled makes the client answer a gap. Without an answer the server reports the gap again on
// the user's next connection.
func (p *progress) gapHandled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answerGap = true
	p.notify()
}

// nextAck returns the seq to acknowledge now, or 0, and reports whether a gap must be answered.
func (p *progress) nextAck() (seq uint64, gap bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap, p.answerGap = p.answerGap, false
	seq = min(p.ack, p.received)
	if seq <= p.acked {
		return 0, gap
	}
	p.acked, p.waiting = seq, 0
	return seq, gap
}

// batchFull reports whether enough acknowledgements are waiting to send one now.
func (p *progress) batchFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting >= ackBatch
}

// The caller of restart, receive, settle and notify holds mu.

func (p *progress) restart(at Position) {
	p.settled, p.handled = at, at.Seq
	p.started, p.startedBefore, p.ack, p.waiting = 0, 0, 0, 0
	p.received, p.acked = 0, 0
}

func (p *progress) receive(seq uint64) {
	p.received = max(p.received, seq)
	p.notify()
}

func (p *progress) settle(seq uint64) {
	p.settled.Seq = max(p.settled.Seq, seq)
	if seq >= p.started { // nothing is unfinished, so idle advances count too
		p.settled.Seq = max(p.settled.Seq, p.handled)
	}
	if seq > p.ack {
		p.ack = seq
		p.waiting++
		p.notify()
	}
}

func (p *progress) notify() {
	if min(p.ack, p.received) <= p.acked && !p.answerGap {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
