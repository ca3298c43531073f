package client

import (
	"sync"

	"github.com/tidings-io/tidings/delivery/wire"
)

// Position is how far a client got: everything up to Seq, of that user and epoch. Seq alone means nothing.
type Position struct {
	User  string `json:"user"`
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// ackBatch is how many acknowledgements are gathered at most.
const ackBatch = 16

// progress is how far the client got: what came, what was handled, what was acknowledged.
type progress struct {
	manual bool // static
	// wake is sent to, without waiting, when there is something to acknowledge.
	wake chan struct{} // static

	// Guarded by mu.
	mu sync.Mutex
	// settled says up to where nothing is left to do: Position.Seq.
	settled Position
	// handled is what OnMessage returned nil for, or what passed with nothing in it; sent as "after". It leads settled only
	// where the caller acknowledges.
	handled uint64
	// given is the last message that OnMessage was called with and did not fail.
	given, givenBefore uint64
	// ack is to be acknowledged; 0: nothing yet.
	ack     uint64
	waiting int // acknowledgements since the last one sent

	// Of this connection.
	received uint64 // an acknowledgement beyond it would be an error
	acked    uint64
	gapHeard bool // and is to be answered
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

// resume is where the next connection is to begin; of no epoch: where the server says.
func (p *progress) resume() Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Position{User: p.settled.User, Epoch: p.settled.Epoch, Seq: p.handled}
}

// connected begins a connection, on which nothing has come yet.
func (p *progress) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received, p.acked, p.gapHeard = 0, 0, false
}

// ready takes the server's word for whose and which stream this is, and where it starts. A start further back in the same epoch
// means that an older copy of the stream was put back: its next messages have seqs that were used before, and are no repeats.
// What was acknowledged before is acknowledged again, because the last acknowledgement may not have arrived.
func (p *progress) ready(r wire.Ready) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled.User != r.User || p.settled.Epoch != r.Epoch || r.After < p.handled {
		p.restart(Position{User: r.User, Epoch: r.Epoch, Seq: r.After})
	}
	p.receive(r.After)
}

// give says whether the message is to be handled: repeats are not.
func (p *progress) give(seq uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receive(seq)
	if seq <= p.handled {
		return false
	}
	p.givenBefore, p.given = p.given, seq
	return true
}

// done ends what give began.
func (p *progress) done(seq uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !ok {
		p.given = p.givenBefore
		return
	}
	p.handled = seq
	if !p.manual {
		p.settle(seq)
	}
}

// pass carries the position to seq, up to which the server has nothing outstanding.
func (p *progress) pass(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receive(seq)
	p.handled = max(p.handled, seq)
	if p.settled.Seq >= p.given {
		p.settled.Seq = max(p.settled.Seq, seq)
	}
}

// acknowledge is the caller's word that all up to seq is done. What OnMessage was not given cannot be.
func (p *progress) acknowledge(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.manual && seq <= p.given {
		p.settle(seq)
	}
}

// heard has a gap answered that was handled, or the server would tell the user's next connection again.
func (p *progress) heard() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gapHeard = true
	p.nudge()
}

// take returns what to acknowledge now, 0 being nothing, and whether there is a gap to answer.
func (p *progress) take() (seq uint64, gap bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap, p.gapHeard = p.gapHeard, false
	seq = min(p.ack, p.received)
	if seq <= p.acked {
		return 0, gap
	}
	p.acked, p.waiting = seq, 0
	return seq, gap
}

// full says that enough acknowledgements have been gathered.
func (p *progress) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting >= ackBatch
}

// restart, receive, settle and nudge want mu held.

func (p *progress) restart(at Position) {
	p.settled, p.handled = at, at.Seq
	p.given, p.givenBefore, p.ack, p.waiting = 0, 0, 0, 0
	p.received, p.acked = 0, 0
}

func (p *progress) receive(seq uint64) {
	p.received = max(p.received, seq)
	p.nudge()
}

func (p *progress) settle(seq uint64) {
	p.settled.Seq = max(p.settled.Seq, seq)
	if seq >= p.given { // all that was given: what passed since counts too
		p.settled.Seq = max(p.settled.Seq, p.handled)
	}
	if seq > p.ack {
		p.ack = seq
		p.waiting++
		p.nudge()
	}
}

func (p *progress) nudge() {
	if min(p.ack, p.received) <= p.acked && !p.gapHeard {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
