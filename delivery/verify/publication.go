package verify

import (
	"encoding/json"
	"fmt"
)

// publication is one notification: what was attempted, and what the stream promised.
type publication struct {
	id        string
	publisher string
	n         int // the publisher's how manieth it is
	to        target
	attempted moment
	acked     moment // 0: it may or may not have been stored
	seq       uint64 // that was acknowledged
	removed   bool
}

func (p *publication) String() string {
	if p.acked == 0 {
		return fmt.Sprintf("%s to %s (attempted at %s, not acknowledged)", p.id, p.to, p.attempted)
	}
	return fmt.Sprintf("%s to %s (seq %d, attempted at %s, acknowledged at %s)", p.id, p.to, p.seq, p.attempted, p.acked)
}

// target is whom a notification is for: a user or a topic.
type target struct {
	topic bool
	name  string
}

func (t target) String() string {
	if t.topic {
		return "topic:" + t.name
	}
	return "user:" + t.name
}

// payload is the data of each notification.
type payload struct {
	ID        string `json:"id"`
	Publisher string `json:"publisher"`
	N         int    `json:"n"`
	To        string `json:"to"`
	Pad       string `json:"pad,omitempty"`
}

func (p *publication) data(pad string) []byte {
	data, _ := json.Marshal(payload{ID: p.id, Publisher: p.publisher, N: p.n, To: p.to.String(), Pad: pad})
	return data
}

// attempt notes a publication before it is made.
func (l *Log) attempt(p publication) int32 {
	p.attempted = l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = map[string]int32{}
	}
	i := int32(len(l.published))
	l.published = append(l.published, p)
	l.byID[p.id] = i
	return i
}

// acknowledge notes that the stream has it.
func (l *Log) acknowledge(i int32, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.published[i]
	p.acked, p.seq = l.now(), seq // under the lock, so that acks are in order
	l.acks = append(l.acks, i)
}

// find returns the publication that a payload names, as far as it is known now.
func (l *Log) find(id string) (int32, publication, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.byID[id]
	if !ok {
		return 0, publication{}, false
	}
	return i, l.published[i], true
}
