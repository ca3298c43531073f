package auth

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	tolerated    = 5 // hosts without an answer before a breaker opens
	firstPause   = time.Second
	longestPause = 10 * time.Second
)

// breaker spares a responder that does not answer. It opens after questions in a row of some hosts without an answer; then nothing is
// asked for a while, one question probes, and an answer closes it. One host alone does not open it, for it may be that only its tokens are
// such that nobody answers. Nor does it go on to probe while others would: after a probe in vain its pause is twice that of the others.
//
// A question counts for the spell of asking in which it began. An answer and an opening begin another: what was asked before, and fails
// after, says nothing that they did not. So the failures of one storm open it once, and a responder among several that hangs does not,
// as long as the others answer.
type breaker struct {
	mu         sync.Mutex
	spell      uint64
	connection uint64   // to NATS; over another nothing is known yet, for the silence may have been its own
	silent     []string // hosts whose questions of this spell had no answer; "" is nobody known, and there again each time
	prober     string   // of the last probe without an answer
	pause      time.Duration
	until      time.Time // when it is open, which pause > 0 says
	probing    bool
}

// closed says whether it may be worthwhile to wait for a turn to ask.
func (b *breaker) closed(connection uint64, host string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over(connection)
	return b.pause == 0 || b.mayProbe(host)
}

// ask says whether a question may be asked, whose end is to be told with the spell.
func (b *breaker) ask(connection uint64, host string) (spell uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over(connection)
	if b.pause > 0 {
		if !b.mayProbe(host) {
			return 0, false
		}
		b.probing = true
	}
	return b.spell, true
}

func (b *breaker) mayProbe(host string) bool {
	until := b.until
	if host != "" && host == b.prober {
		until = until.Add(b.pause)
	}
	return !b.probing && !time.Now().Before(until)
}

// answered notes an answer, whatever it says.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	b.pause, b.prober = 0, ""
}

// unanswered notes that nobody listens, or that there was no answer in time.
func (b *breaker) unanswered(spell uint64, host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if spell != b.spell {
		return
	}
	if b.pause > 0 {
		b.prober = host
	} else if host == "" || !slices.Contains(b.silent, host) {
		b.silent = append(b.silent, host)
	}
	if b.pause == 0 && len(b.silent) < tolerated {
		return
	}
	b.begin()
	b.pause = min(max(firstPause, 2*b.pause), longestPause)
	b.until = time.Now().Add(b.pause*3/4 + rand.N(b.pause/2))
}

// givenUp notes that a question was given up, which says nothing. If it was the probe it is for others to probe now.
func (b *breaker) givenUp(spell uint64, host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if spell == b.spell && b.probing {
		b.probing, b.prober, b.until = false, host, time.Now()
	}
}

// retry is when a client should come again, drawn for it alone. It is soon after the pause, for somebody has to probe.
func (b *breaker) retry() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(time.Until(b.until), firstPause/2) + rand.N(max(firstPause, b.pause/2))
}

// over forgets everything if the connection to NATS is a newer one by now. Who looked before that may still bring the number of the older.
func (b *breaker) over(connection uint64) {
	if connection > b.connection {
		b.begin()
		b.connection, b.pause, b.prober = connection, 0, ""
	}
}

func (b *breaker) begin() {
	b.spell++
	b.silent, b.probing = b.silent[:0], false
}
