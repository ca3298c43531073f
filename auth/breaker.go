package auth

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	tolerated    = 5 // questions without an answer before a breaker opens
	firstPause   = time.Second
	longestPause = 10 * time.Second
)

// breaker spares a responder that does not answer. It opens after some questions in a row without an answer; then nothing is asked for
// a while, one question probes, and an answer closes it.
//
// A question counts for the spell of asking in which it began. An answer and an opening begin another: what was asked before, and fails
// after, says nothing that they did not. So the failures of one storm open it once, and a responder among several that hangs does not,
// as long as the others answer.
type breaker struct {
	mu         sync.Mutex
	spell      uint64
	connection uint64 // to NATS; over another nothing is known yet, for the silence may have been its own
	silent     int    // questions of this spell without an answer
	pause      time.Duration
	until      time.Time // when it is open, which pause > 0 says
	probing    bool
}

// closed says whether it may be worthwhile to wait for a turn to ask.
func (b *breaker) closed(connection uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over(connection)
	return b.pause == 0 || !b.probing && !time.Now().Before(b.until)
}

// ask says whether a question may be asked, whose end is to be told with the spell.
func (b *breaker) ask(connection uint64) (spell uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over(connection)
	if b.pause > 0 {
		if b.probing || time.Now().Before(b.until) {
			return 0, false
		}
		b.probing = true
	}
	return b.spell, true
}

// answered notes an answer, whatever it says.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	b.pause = 0
}

// unanswered notes that nobody listens, or that there was no answer in time.
func (b *breaker) unanswered(spell uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if spell != b.spell {
		return
	}
	if b.silent++; b.pause == 0 && b.silent < tolerated {
		return
	}
	b.begin()
	b.pause = min(max(firstPause, 2*b.pause), longestPause)
	b.until = time.Now().Add(b.pause*3/4 + rand.N(b.pause/2))
}

// givenUp notes that a question was given up, which says nothing.
func (b *breaker) givenUp(spell uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if spell == b.spell {
		b.probing = false
	}
}

// retry is when a client should come again, drawn for it alone. It is soon after the pause, for somebody has to probe.
func (b *breaker) retry() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(time.Until(b.until), firstPause/2) + rand.N(max(firstPause, b.pause/2))
}

// over forgets everything if the connection to NATS is another by now.
func (b *breaker) over(connection uint64) {
	if connection != b.connection {
		b.begin()
		b.connection, b.pause = connection, 0
	}
}

func (b *breaker) begin() {
	b.spell++
	b.silent, b.probing = 0, false
}
