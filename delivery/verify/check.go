package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// violation is something that does not hold, with its proof.
type violation struct {
	what string // such as "lost"
	text string
}

// printed is how many violations the error of Check holds.
const printed = 20

// Check is nil, or all that does not hold, each with what proves it. It is for the end, when Missing has become nil; it includes
// Missing.
//
//	lost     what was acknowledged did not come, and no gap says so; or a position moved past what nobody has read
//	foreign  a client got what was not for it, or what nobody published
//	order    a seq that does not increase, or is another than the publisher was told; an older notification behind a newer one
//	twice    the same notification once more, though the client dropped what it had by its seq
//	live     live or ping say that nothing is outstanding while something is
//	protocol a frame that must not come, or not there
func (l *Log) Check() error {
	j := l.judge()
	j.arrange()
	var all []violation
	all = append(all, j.epochViolations()...)
	readers := map[cursorID]*readers{}
	for _, c := range j.clients {
		all = append(all, j.check(c)...)
		all = append(all, j.starts(c, readers)...)
	}
	if len(all) == 0 {
		return nil
	}
	counts := map[string]int{}
	for _, v := range all {
		counts[v.what]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d violations", len(all))
	for _, what := range []string{"lost", "foreign", "order", "twice", "live", "protocol"} {
		if counts[what] > 0 {
			fmt.Fprintf(&b, ", %d %s", counts[what], what)
		}
	}
	for _, v := range all[:min(len(all), printed)] {
		fmt.Fprintf(&b, "\n%s: %s", v.what, v.text)
	}
	if len(all) > printed {
		fmt.Fprintf(&b, "\nand %d more", len(all)-printed)
	}
	return errors.New(b.String())
}

// check goes through the client's frames.
func (j *judge) check(c *Client) (all []violation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = slices.Clone(c.faults)
	f := j.life(c)
	if f == nil {
		return append(all, violation{"lost", "client " + c.cfg.Name + " was never admitted"})
	}
	add := func(what string, conn *connection, format string, v ...any) {
		all = append(all, violation{what, fmt.Sprintf("client %s, %s: ", c.cfg.Name, conn) + fmt.Sprintf(format, v...)})
	}
	for _, conn := range c.conns {
		conn.checkProtocol(c, add)
	}
	seen := j.checkOrder(c, add)
	all = append(all, f.checkLost(seen)...)
	for k := range f.stays {
		f.checkLive(k, seen, add)
	}
	return all
}

// fault notes what a frame alone shows.
func (c *Client) fault(what, text string, conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, violation{what, fmt.Sprintf("client %s, %s: %s", c.cfg.Name, conn, text)})
}

// addFunc notes a violation that frames of a connection prove.
type addFunc func(what string, conn *connection, format string, v ...any)

// epochViolations: a new epoch needs a replacement.
func (j *judge) epochViolations() (all []violation) {
	for k := 1; k < len(j.epochs); k++ {
		before, now := j.epochs[k-1], j.epochs[k]
		if !slices.ContainsFunc(j.replaced, func(at moment) bool { return at > before.from && at < now.from }) {
			all = append(all, violation{"protocol", fmt.Sprintf("epoch %s (seen at %s) became %s (at %s), and the stream was not replaced",
				before.name, before.from, now.name, now.from)})
		}
	}
	return all
}
