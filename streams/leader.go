package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What one server of a cluster says of a replicated stream is not what all of them know. A leader that is cut off from its replicas,
// but not from us, goes on to answer beside the one that they elect, until it has found no quorum for 10 s, for which it looks each
// 10 s (lostQuorumInterval and lostQuorumCheck of nats-server's raft.go). Nobody is elected before 4 s of silence
// (minElectionTimeout), and who is, may answer before all that is committed has been applied.
const (
	followedWithin = 3500 * time.Millisecond
	appliedWithin  = time.Second
	deposedWithin  = 25 * time.Second
	// wokenWithin is for a server that slept through its own replacement, which it hears of with the next heartbeat, after 1 s.
	wokenWithin = 2 * time.Second
)

// errDisputed says that an old leader may have answered, which lacks what was stored since.
var errDisputed = errors.New("the stream's leader is so new that another may still answer in its place")

// leads says whether the leader that answers is one that most replicas follow, and has had the time to apply what it has.
func leads(info *jetstream.StreamInfo) bool {
	c := info.Cluster
	if c == nil || len(c.Replicas) == 0 {
		return true
	}
	all, follow := 1, 1
	for _, r := range c.Replicas {
		if r.Pending { // it has no vote yet
			continue
		}
		all++
		if r.Current && !r.Offline && r.Active < followedWithin {
			follow++
		}
	}
	return c.Leader != "" && 2*follow > all && ledFor(info) >= appliedWithin
}

// disputed says whether another may answer beside the leader.
func disputed(info *jetstream.StreamInfo) bool {
	return info.Cluster != nil && len(info.Cluster.Replicas) > 0 && ledFor(info) < deposedWithin
}

// ledFor is how long the leader has been that, by its own clock. One that does not say has been for long enough.
func ledFor(info *jetstream.StreamInfo) time.Duration {
	if since := info.Cluster.LeaderSince; since != nil {
		return info.TimeStamp.Sub(*since)
	}
	return deposedWithin
}

// info asks the stream's leader. It asks again while the one that answers may lack what was acknowledged, or nobody answers: a stream
// without a leader is silent.
func (s *Stream) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	for patience := time.Second; ; {
		try, cancel := context.WithTimeout(ctx, patience)
		info, err := s.answer(try)
		cancel()
		switch {
		case err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)):
			return nil, err
		case err != nil:
			patience *= 2
		case leads(info):
			return info, nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// leaderNextSure is leaderNext where it matters that nothing is found. Of several replicas the leader is asked twice, and believed only
// once it has led for so long that no other answers: errDisputed before.
func (s *Stream) leaderNextSure(ctx context.Context, subject string, after uint64) (m Message, found bool, err error) {
	m, found, err = s.leaderNext(ctx, subject, after)
	if err != nil || found {
		return m, found, err
	}
	info, err := s.bounded(ctx)
	if err != nil || info.Config.Replicas <= 1 {
		return m, false, err
	}
	if disputed(info) {
		return m, false, errDisputed
	}
	if err := pause(ctx, wokenWithin); err != nil {
		return m, false, err
	}
	return s.leaderNext(ctx, subject, after)
}

func (s *Stream) bounded(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := s.info(ctx)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", s.name, explain(err))
	}
	return info, nil
}
