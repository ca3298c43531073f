package delivery

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nuid"

	"github.com/tidings-io/tidings/streams"
)

// result is what became of a publication at one recipient.
type result struct {
	User      string `json:"user,omitempty"`
	Topic     string `json:"topic,omitempty"`
	Seq       uint64 `json:"seq,omitempty"`
	Duplicate *bool  `json:"duplicate,omitempty"` // where it is stored
	Status    int    `json:"status,omitempty"`    // where it is not
	Error     string `json:"error,omitempty"`
}

// published is the answer to a publication of which something was stored.
type published struct {
	ID      string   `json:"id"`
	Results []result `json:"results"`
}

// roomForRecipients is what a body may hold beside the data, in bytes: a thousand of the longest names are 200 KiB.
const roomForRecipients = 1 << 20

// For the stream to acknowledge, and for each recipient more: with --sync always they wait for the disk one after another.
const (
	storeWithin     = 10 * time.Second
	storeWithinEach = 10 * time.Millisecond
)

// postNotifications answers once the stream has acknowledged all, or what failed has been tried for long enough.
func (g *Gateway) postNotifications(w http.ResponseWriter, r *http.Request) error {
	if err := g.admit(r, ""); err != nil {
		return err
	}
	if err := g.mayPublish(r); err != nil {
		return err
	}
	p, err := g.readPublication(w, r)
	if err != nil {
		return err
	}
	if err := g.reachable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeWithin+time.Duration(len(p.users))*storeWithinEach)
	defer cancel()
	if p.n.ID == "" { // made here, so that the client learns it and can try again
		p.n.ID = nuid.Next()
	}
	publisher := g.cfg.Stream.Publisher()
	if p.topic != "" {
		receipt, err := publisher.Topic(ctx, p.topic, p.n)
		return g.report(w, p, []streams.Result{{Receipt: receipt, Err: err}})
	}
	return g.report(w, p, publisher.Users(ctx, p.users, p.n))
}

// report answers 202 where all is stored, 207 where some is, and else with what failed first.
func (g *Gateway) report(w http.ResponseWriter, p publication, stored []streams.Result) error {
	answer := published{ID: p.n.ID}
	var first error
	failed := 0
	for _, s := range stored {
		g.metrics.publication(s)
		one := result{User: s.User, Topic: p.topic}
		if s.Err == nil {
			one.Seq, one.Duplicate = s.Seq, &s.Duplicate
		} else {
			why := problemFor(s.Err)
			one.Status, one.Error = why.Status, why.Detail
			if failed++; first == nil {
				first = s.Err
			}
		}
		answer.Results = append(answer.Results, one)
	}
	if first != nil && problemFor(first).Status >= http.StatusInternalServerError { // else it is the client's mistake
		g.log.Warn().Err(first).Int("failed", failed).Int("of", len(stored)).Msg("not published")
	}
	switch failed {
	case 0:
		writeJSON(w, http.StatusAccepted, "application/json", answer)
	case len(stored):
		whole := *problemFor(first)
		whole.ID, whole.Results = answer.ID, answer.Results
		return &whole
	default:
		writeJSON(w, http.StatusMultiStatus, "application/json", answer)
	}
	return nil
}

// readBody reads JSON. That a page must say so keeps other sites from sending it: their browser would ask first.
func readBody(w http.ResponseWriter, r *http.Request, most int) ([]byte, error) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		w.Header().Set("Accept-Encoding", "identity") // RFC 9110, 12.5.3
		return nil, problemf(http.StatusUnsupportedMediaType, "Content-Encoding %.20q: send the body as it is, not compressed", coding)
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, problemf(http.StatusUnsupportedMediaType, "send JSON in UTF-8, with the header Content-Type: application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
	if err != nil {
		if p := problemFor(err); p.Status == http.StatusRequestEntityTooLarge {
			return nil, p
		}
		return nil, problemf(http.StatusBadRequest, "the body did not arrive whole: send it again")
	}
	return body, nil
}

func (g *Gateway) readPublication(w http.ResponseWriter, r *http.Request) (publication, error) {
	body, err := readBody(w, r, g.cfg.Stream.MaxNotification()+roomForRecipients)
	if err != nil {
		return publication{}, err
	}
	p, err := decodePublication(body)
	if err != nil {
		return publication{}, err
	}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if p.n.ID != "" && p.n.ID != key {
			return publication{}, problemf(http.StatusBadRequest, "id and the header Idempotency-Key differ: send one of them")
		}
		p.n.ID = key
		if damaged(key) {
			return publication{}, problemf(http.StatusBadRequest, "Idempotency-Key %.40q: its encoding is broken", key)
		}
	}
	if trace := r.Header.Get(streams.HeaderTraceparent); streams.ValidTraceparent(trace) {
		p.n.Traceparent = trace
	}
	return p, nil
}
