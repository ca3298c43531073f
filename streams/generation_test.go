package streams_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Where the generation is in the metadata of the stream, and the name of the durable that has a second copy.
const generationKey = "tidings_generation"

// newEpoch starts a new epoch, as tidings new-epoch does, and returns it.
func (g *gateway) newEpoch() string {
	g.Helper()
	stream, err := streams.Find(testContext(g, patience), g.nc, streams.Config{})
	if err != nil {
		g.Fatal(err)
	}
	st, err := stream.NewEpoch(testContext(g, patience))
	if err != nil {
		g.Fatal(err)
	}
	return st.Epoch
}

// editMetadata replaces all of it, as nats stream edit --metadata does.
func (g *gateway) editMetadata(metadata map[string]string) {
	g.Helper()
	g.edit(func(c *jetstream.StreamConfig) { c.Metadata = metadata })
}

// epochIs is an error unless a process that starts now finds that epoch.
func (g *gateway) epochIs(want string) error {
	g.Helper()
	stream, err := streams.Find(testContext(g, patience), g.nc, streams.Config{})
	if err != nil {
		return err
	}
	if st, err := stream.State(testContext(g, patience)); err != nil || st.Epoch != want {
		return fmt.Errorf("epoch %s (%w), want %s", st.Epoch, err, want)
	}
	return nil
}

// An epoch that is over must not begin again: positions of it would count.
func TestAnEpochOutlivesTheStreamsMetadata(t *testing.T) {
	t.Parallel()
	g := open(t, streamstest.Run(t).Connect(t), streams.Config{})
	first := g.newEpoch()
	pinned := g.jetstream().CachedInfo().Config.Metadata[generationKey]
	second := g.newEpoch()
	latest := g.jetstream().CachedInfo().Config.Metadata[generationKey]
	if first == second {
		t.Fatal("the epoch is the same")
	}
	for what, metadata := range map[string]map[string]string{
		"replaced": {"team": "a"}, "removed": nil, "pinned": {generationKey: pinned}, "nonsense": {generationKey: "!"},
	} {
		g.editMetadata(metadata)
		if err := g.epochIs(second); err != nil {
			t.Errorf("%s: a tool finds %v", what, err)
		}
		again := open(t, g.nc, streams.Config{}) // a gateway puts it back, also for older releases, and nothing else
		got := again.jetstream().CachedInfo().Config.Metadata
		if got[generationKey] != latest || got["team"] != metadata["team"] {
			t.Errorf("%s: metadata %v, want generation %s", what, got, latest)
		}
	}
}

func TestAnEpochOutlivesTheStreamsMetadataWhileAGatewayRuns(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: pollFast})
	epoch := g.newEpoch()
	streamstest.Eventually(t, patience, func() error {
		if now := g.tail.Epoch(); now != epoch {
			return fmt.Errorf("epoch %s, want %s", now, epoch)
		}
		return nil
	})
	r := g.userReader(0, "alice")
	g.editMetadata(nil)
	streamstest.Eventually(t, patience, func() error {
		if g.jetstream().CachedInfo().Config.Metadata[generationKey] == "" {
			return fmt.Errorf("no generation")
		}
		return g.tail.Check()
	})
	g.publish("alice", "1")
	g.wants(r, "1") // it did not end
}

// An older release knows of the metadata alone. What it writes there is kept too, and counts where it is later.
func TestAnEpochOfAnOlderReleaseIsKept(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: pollFast})
	g.newEpoch()
	before := g.tail.Epoch()
	g.editMetadata(map[string]string{generationKey: "1y2p0ij32e8e6"}) // in the year 2262
	streamstest.Eventually(t, patience, func() error {
		consumer, err := g.js.Consumer(testContext(t, patience), g.stream.Name(), generationKey)
		if err != nil {
			return err
		}
		if kept := consumer.CachedInfo().Config.Metadata[generationKey]; kept != "1y2p0ij32e8e6" {
			return fmt.Errorf("kept is %s", kept)
		}
		return nil
	})
	epoch := g.mark().Epoch
	g.editMetadata(nil)
	if err := g.epochIs(epoch); err != nil || epoch == before {
		t.Errorf("%v; before it was %s", err, before)
	}
	if next := g.newEpoch(); next == epoch { // though the clock is behind
		t.Error("no new epoch begins")
	}
}

// A stream that is deleted takes its generation along.
func TestAnotherStreamHasAGenerationOfItsOwn(t *testing.T) {
	t.Parallel()
	g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{Poll: pollFast})
	epoch := g.newEpoch()
	if err := g.js.DeleteStream(testContext(t, patience), g.stream.Name()); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, patience, func() error {
		st, err := g.stream.State(testContext(t, time.Second))
		if err == nil && st.Epoch == epoch {
			err = fmt.Errorf("epoch %s", st.Epoch)
		}
		return err
	})
	if metadata := g.jetstream().CachedInfo().Config.Metadata; metadata[generationKey] != "" {
		t.Errorf("metadata %v", metadata)
	}
}
