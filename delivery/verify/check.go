package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// violation is a broken guarantee, with the observations that prove it.
type violation struct {
	kind string // such as "lost"
	text string
}

// maxPrinted is the maximum number of violations in the error of Check.
const maxPrinted = 20

// Check returns an error with all violations and their proofs, or nil. Call it at the end, after Missing has returned
// nil; Check includes what Missing checks. These are the kinds of violations:
//
//	lost      an acknowledged notification was not delivered and no gap covers it, or a position moved past unread notifications
//	foreign   a client received a notification that was not for it, or that was not published
//	order     a seq does not increase or differs from the publisher's receipt, or an older notification follows a newer one
//	duplicate a notification was delivered again with a new seq, so that the client could not drop it
//	live      a live or ping frame reported a seq while an earlier notification was outstanding
//	protocol  a frame that the protocol does not allow, or not at that point
func (l *Log) Check() error {
	j := l.judge()
	j.index()
	var all []violation
	all = append(all, j.epochViolations()...)
	reads := map[positionID]*readHistory{}
	for _, c := range j.clients {
		all = append(all, j.check(c)...)
		all = append(all, j.checkStarts(c, reads)...)
	}
	if len(all) == 0 {
		return nil
	}
	counts := map[string]int{}
	for _, v := range all {
		counts[v.kind]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d violations", len(all))
	for _, kind := range []string{"lost", "foreign", "order", "duplicate", "live", "protocol"} {
		if counts[kind] > 0 {
			fmt.Fprintf(&b, ", %d %s", counts[kind], kind)
		}
	}
	for _, v := range all[:min(len(all), maxPrinted)] {
		fmt.Fprintf(&b, "\n%s: %s", v.kind, v.text)
	}
	if len(all) > maxPrinted {
		fmt.Fprintf(&b, "\nand %d more", len(all)-maxPrinted)
	}
	return errors.New(b.String())
}

// check returns all violations found in the client's frames.
func (j *judge) check(c *Client) (all []violation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = slices.Clone(c.faults)
	f := j.history(c)
	if f == nil {
		return append(all, violation{"lost", "client " + c.cfg.Name + " never received ready"})
	}
	add := func(kind string, conn *connection, format string, v ...any) {
		all = append(all, violation{kind, fmt.Sprintf("client %s, %s: ", c.cfg.Name, conn) + fmt.Sprintf(format, v...)})
	}
	for _, conn := range c.conns {
		conn.checkProtocol(c, add)
	}
	seen := j.checkOrder(c, add)
	all = append(all, f.checkLost(seen)...)
	for k := range f.perEpoch {
		f.checkLive(k, seen, add)
	}
	return all
}

// addFault records a violation that a single frame proves.
func (c *Client) addFault(kind, text string, conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, violation{kind, fmt.Sprintf("client %s, %s: %s", c.cfg.Name, conn, text)})
}

// addFunc records a violation that frames of a connection prove.
type addFunc func(kind string, conn *connection, format string, v ...any)

// epochViolations returns a violation for each new epoch without a replacement of the stream.
func (j *judge) epochViolations() (all []violation) {
	for k := 1; k < len(j.epochs); k++ {
		before, now := j.epochs[k-1], j.epochs[k]
		if !slices.ContainsFunc(j.replaced, func(at moment) bool { return at > before.from && at < now.from }) {
			all = append(all, violation{"protocol", fmt.Sprintf("epoch %s (first seen at %s) changed to %s (at %s), but the stream was not replaced",
				before.name, before.from, now.name, now.from)})
		}
	}
	return all
}
