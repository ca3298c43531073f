package verify

import (
	"encoding/json"
	"fmt"
)

// publication is one notification that a Publisher attempted to publish, and its acknowledgement.
type publication struct {
	id        string
	publisher string
	n         int // number among the publications of the publisher, from 1
	to        target
	attempted moment
	acked     moment // 0: not acknowledged; it may or may not be stored
	seq       uint64 // of the acknowledgement
	removed   bool   // see Log.Removed
}

func (p *publication) String() string {
	if p.acked == 0 {
		return fmt.Sprintf("%s to %s (attempted at %s, not acknowledged)", p.id, p.to, p.attempted)
	}
	return fmt.Sprintf("%s to %s (seq %d, attempted at %s, acknowledged at %s)", p.id, p.to, p.seq, p.attempted, p.acked)
}

// target is the user or topic of a notification.
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

// attempt records a publication before it is sent, and returns its index.
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

// acknowledge records that the stream has stored the publication.
func (l *Log) acknowledge(i int32, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.published[i]
	p.acked, p.seq = l.now(), seq // under the lock, so that acks are in order
	l.acks = append(l.acks, i)
}

// find returns the index and a copy of the publication with the given id.
func (l *Log) find(id string) (int32, publication, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.byID[id]
	if !ok {
		return 0, publication{}, false
	}
	return i, l.published[i], true
}
