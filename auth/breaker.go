package auth

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	openAfter = 5 // hosts without a reply before the breaker opens
	minPause  = time.Second
	maxPause  = 10 * time.Second
)

// breaker protects a responder that does not reply. It opens after requests of openAfter hosts in a
// row had no reply. While it is open no request is sent for a while; then one request probes, and a
// reply closes the breaker.
//
// One host alone does not open it, because the responder may just not reply to that host's tokens.
// Nor does one host keep probing while others want to: after a probe without a reply its pause is
// twice that of the others.
//
// A request counts only for the period in which it began. A reply and an opening each begin a new
// period: a request of an earlier period that then fails adds nothing that they have not shown. So
// the failures of one storm open the breaker once, and one hanging responder among several does not
// open it as long as the others reply.
type breaker struct {
	mu          sync.Mutex
	period      uint64
	connection  uint64   // connection generation of NATS; on a new connection nothing is known, because the old one may have been the cause
	silentHosts []string // hosts whose requests in this period had no reply; "" is an unknown host, and can occur several times
	prober      string   // host of the last probe without a reply
	pause       time.Duration
	until       time.Time // when a probe is allowed; the breaker is open if pause > 0
	probing     bool
}

// allows reports whether a request of the host may be sent now or after a short wait.
func (b *breaker) allows(connection uint64, host string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setConnection(connection)
	return b.pause == 0 || b.mayProbe(host)
}

// start reports whether a request may be sent now. When it ends, call answered, unanswered or
// abandoned, with the period.
func (b *breaker) start(connection uint64, host string) (period uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setConnection(connection)
	if b.pause > 0 {
		if !b.mayProbe(host) {
			return 0, false
		}
		b.probing = true
	}
	return b.period, true
}

func (b *breaker) mayProbe(host string) bool {
	until := b.until
	if host != "" && host == b.prober {
		until = until.Add(b.pause)
	}
	return !b.probing && !time.Now().Before(until)
}

// answered records a reply, whatever it says.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.newPeriod()
	b.pause, b.prober = 0, ""
}

// unanswered records that there is no responder, or that no reply arrived in time.
func (b *breaker) unanswered(period uint64, host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if period != b.period {
		return
	}
	if b.pause > 0 {
		b.prober = host
	} else if host == "" || !slices.Contains(b.silentHosts, host) {
		b.silentHosts = append(b.silentHosts, host)
	}
	if b.pause == 0 && len(b.silentHosts) < openAfter {
		return
	}
	b.newPeriod()
	b.pause = min(max(minPause, 2*b.pause), maxPause)
	b.until = time.Now().Add(b.pause*3/4 + rand.N(b.pause/2))
}

// abandoned records that a request ended for another reason, which says nothing about the
// responder. If it was the probe, another host may probe now.
func (b *breaker) abandoned(period uint64, host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if period == b.period && b.probing {
		b.probing, b.prober, b.until = false, host, time.Now()
	}
}

// retry returns a random time after which a client should retry. It is soon after the pause,
// because some client has to probe.
func (b *breaker) retry() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(time.Until(b.until), minPause/2) + rand.N(max(minPause, b.pause/2))
}

// setConnection forgets everything if the connection to NATS is newer. A caller may pass an older
// generation if it read it before a reconnect; that changes nothing.
func (b *breaker) setConnection(connection uint64) {
	if connection > b.connection {
		b.newPeriod()
		b.connection, b.pause, b.prober = connection, 0, ""
	}
}

func (b *breaker) newPeriod() {
	b.period++
	b.silentHosts, b.probing = b.silentHosts[:0], false
}
