package verify

import (
	"errors"
	"fmt"
	"strings"
)

// Missing returns nil if every client has received all acknowledged notifications for it, except those that a gap
// covers or that are before the client's start. Otherwise the error counts what is missing and has some examples. Use
// it to wait until the clients have recovered from faults.
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
	text := fmt.Sprintf("%d notifications missing at %d clients, for example\n%s", count, clients, strings.Join(some, "\n"))
	return errors.New(text)
}

// missing describes each publication that the client has not received. To speed up the next call, it records how many
// of the first acknowledgements need not be examined again.
func (j *judge) missing(c *Client) (lost []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := j.history(c)
	if f == nil {
		return []string{"client " + c.cfg.Name + " never received ready"}
	}
	for n := c.settled; n < len(j.acks); n++ {
		i := j.acks[n]
		p := &j.published[i]
		if !c.seen.has(i) && c.mayReceive(p.to) && !p.removed {
			switch k := j.epochOf(p); {
			case !f.concerns(p, k): // may change later
				continue
			case f.excused(p, k) == never:
				lost = append(lost, fmt.Sprintf("client %s did not receive %s", c.cfg.Name, p))
				continue
			}
		}
		if n == c.settled {
			c.settled++
		}
	}
	return lost
}
