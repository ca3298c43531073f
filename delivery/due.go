package delivery

import (
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

// writeDue writes what time brings: a ping, a word of the lease's end, or the end.
func (w *writer) writeDue() error {
	lease := w.currentLease()
	if lease.over(w.now) {
		return errLeaseExpired
	}
	if !lease.end.IsZero() && w.warned != lease && !w.now.Before(lease.warn) {
		w.warned = lease
		if err := w.write(wire.Expiring{In: lease.end.Sub(w.now).Milliseconds()}); err != nil {
			return err
		}
	}
	if w.now.Before(w.ping) {
		return nil
	}
	w.ping = w.now.Add(w.g.cfg.Ping)
	ping := wire.Ping{}
	if w.state == live && w.caughtUp {
		ping.Seq = w.reader.Position()
		raise(&w.sent, ping.Seq)
		w.carry()
	}
	return w.write(ping)
}

// nextDue is when time brings something.
func (w *writer) nextDue() time.Time {
	next := w.ping
	lease := w.currentLease()
	if lease == w.warned {
		lease.warn = time.Time{}
	}
	for _, t := range []time.Time{w.retry, lease.end, lease.warn} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}
