package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// nats-server 2.15 frees the name of a deleted stream first, then stops its consumers, and moves its directory away at the end. Without
// a cluster, a stream that is created meanwhile opens the old directory: it holds the old messages, and loses its files, with all that
// was acknowledged, when the deletion ends. Where a directory could not be moved, because that of an earlier deletion is still being
// removed, or because the server was killed, the next stream of the name holds its messages.

// deletionWithin is how long a server may take to delete a stream. 5,000 consumers take 0.2 s.
const deletionWithin = 5 * time.Second

// awaitDeletion waits until the server has finished a deletion of the stream, or there is one again. Where the audit does not report
// the end of the deletion, it waits for deletionWithin.
func (t *Tail) awaitDeletion(ctx context.Context) error {
	end := time.After(deletionWithin)
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.deleted:
			return nil
		case <-end:
			return nil
		case <-look.C:
		}
		if _, err := t.stream.State(ctx); !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
	}
}

// purgeLeftovers purges from a stream that was just created what was stored before that: messages of a deleted stream of this name.
func (s *Stream) purgeLeftovers(ctx context.Context, made jetstream.Stream) error {
	info := made.CachedInfo()
	if info.Cluster != nil || info.State.Msgs == 0 || !info.State.FirstTime.Before(info.Created) {
		return nil // in a cluster the times are of different clocks, and nothing is left over
	}
	keep, found, err := s.firstSince(ctx, info.Created)
	if err == nil && !found {
		keep = info.State.LastSeq + 1
	}
	if err == nil {
		err = made.Purge(ctx, jetstream.WithPurgeSequence(keep))
	}
	if err != nil {
		return fmt.Errorf("stream %s: purge messages from before it was created at %s, which a deleted stream of this name left (nats stream purge --seq): %w",
			s.name, info.Created.Format(time.RFC3339Nano), explain(err))
	}
	return nil
}
