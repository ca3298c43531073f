package verify

import (
	"errors"
	"fmt"
	"strings"
)

// Missing is nil once every client has all that it must have: what was acknowledged to its publisher, unless a gap covers it or it
// lay before where the client began. Else the error counts what is missing and names some. It is for waiting until faults have
// healed.
func (l *Log) Missing() error {
	j := l.judge()
	count, clients := 0, 0
	var some []string
	for _, c := range j.clients {
		lost := j.missing(c)
		if len(lost) == 0 {
			continue
		}
		clients++
		if count += len(lost); len(some) < 5 {
			some = append(some, lost[0])
		}
	}
	if clients == 0 {
		return nil
	}
	text := fmt.Sprintf("%d missing, of %d clients, such as\n%s", count, clients, strings.Join(some, "\n"))
	return errors.New(text)
}

// missing returns what the client lacks, each in words. It remembers for the next call how far nothing can be lacking any more.
func (j *judge) missing(c *Client) (lost []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := j.life(c)
	if f == nil {
		return []string{"client " + c.cfg.Name + " was never admitted"}
	}
	for n := c.settled; n < len(j.acks); n++ {
		i := j.acks[n]
		p := &j.published[i]
		if !c.seen.has(i) && c.meant(p.to) && !p.removed {
			switch world := j.world(p); {
			case !f.concerns(p, world): // as yet
				continue
			case f.excused(p, world) == never:
				lost = append(lost, fmt.Sprintf("client %s lacks %s", c.cfg.Name, p))
				continue
			}
		}
		if n == c.settled {
			c.settled++
		}
	}
	return lost
}
