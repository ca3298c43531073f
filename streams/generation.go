package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The generation of a stream tells its epochs apart. All releases read it from the stream's metadata, which nats stream edit --metadata
// and configuration tools replace as a whole. Without it an epoch that is over would begin again, and positions of it would count. A
// durable consumer, which such tools leave alone, which is deleted with the stream and which a backup of the stream has too, keeps a
// second copy. Of the two the later counts, and a gateway puts it back into the metadata.
const (
	metadataGeneration = "tidings_generation"
	generationConsumer = "tidings_generation"
)

// generations is what is known of the generation of one stream. Its zero value knows nothing.
type generations struct {
	mu      sync.Mutex
	created time.Time // of the stream that the rest is about
	latest  string    // ever seen; empty: the stream has had one epoch
	kept    string    // by the durable consumer; no request is made while mu is held
}

// of returns what is known of the stream that was created then, and whether anything is.
func (g *generations) of(created time.Time) (latest, kept string, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.latest, g.kept, g.created.Equal(created)
}

// saw adds a generation that the stream's metadata or the durable consumer has, and returns the latest.
func (g *generations) saw(created time.Time, metadata, kept string) (latest string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.created.Equal(created) {
		g.created, g.kept, g.latest = created, "", ""
	}
	g.kept = later(g.kept, kept)
	g.latest = later(later(g.latest, kept), metadata)
	return g.latest
}

// generation returns the latest generation of the stream that the server described. It asks for the copy once for each stream, or
// once for each of those who ask at the same time.
func (s *Stream) generation(ctx context.Context, info *jetstream.StreamInfo) (string, error) {
	_, kept, known := s.generations.of(info.Created)
	if !known {
		var err error
		if kept, err = s.keptGeneration(ctx); err != nil {
			return "", err
		}
	}
	return s.generations.saw(info.Created, info.Config.Metadata[metadataGeneration], kept), nil
}

// keptGeneration asks the durable consumer. It is empty where there is none.
func (s *Stream) keptGeneration(ctx context.Context) (kept string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err = s.askAgain(ctx, func(ctx context.Context) error {
		consumer, err := s.js.Consumer(ctx, s.name, generationConsumer)
		if err == nil {
			kept = consumer.CachedInfo().Config.Metadata[metadataGeneration]
		}
		return err
	})
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("consumer %s: %w", generationConsumer, explain(err))
	}
	return kept, nil
}

// keepGeneration has the durable consumer keep the latest generation of the stream that was created then, if it does not yet.
func (s *Stream) keepGeneration(ctx context.Context, created time.Time) error {
	latest, kept, known := s.generations.of(created)
	if !known || latest == kept {
		return nil
	}
	kept, err := s.keptGeneration(ctx) // another gateway may have been first
	if err != nil {
		return err
	}
	if later(kept, latest) != kept {
		_, err = s.js.CreateOrUpdateConsumer(ctx, s.name, jetstream.ConsumerConfig{
			Durable:       generationConsumer,
			Description:   "Tidings: the stream's generation, beside its metadata; nobody reads by it",
			DeliverPolicy: jetstream.DeliverNewPolicy,
			AckPolicy:     jetstream.AckNonePolicy,
			FilterSubject: UserPrefix + "%", // no user's
			Metadata:      map[string]string{metadataGeneration: latest},
		})
		if err != nil {
			return fmt.Errorf("consumer %s: %w", generationConsumer, explain(err))
		}
		kept = latest
	}
	s.generations.saw(created, "", kept)
	return nil
}

// withGeneration returns the settings with the generation in their metadata.
func withGeneration(cfg jetstream.StreamConfig, generation string) jetstream.StreamConfig {
	if generation == cfg.Metadata[metadataGeneration] {
		return cfg
	}
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.Metadata[metadataGeneration] = generation
	return cfg
}

// nextGeneration is later than the last one, whatever the clock says.
func nextGeneration(last string) string {
	n, _ := strconv.ParseInt(last, 36, 64)
	return strconv.FormatInt(max(time.Now().UnixNano(), n+1), 36)
}

// later returns the later of two generations, which are numbers to the base of 36. What is none is earlier than any.
func later(a, b string) string {
	n, _ := strconv.ParseInt(a, 36, 64)
	m, err := strconv.ParseInt(b, 36, 64)
	if err != nil || n >= m {
		return a
	}
	return b
}
