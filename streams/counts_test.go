package streams_test

import (
	"testing"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// What a subject may have got is never told as less than it is, whoever has asked before, and as no more than that where it is asked to
// the limit.
func TestAtMost(t *testing.T) {
	t.Parallel()
	for name, memory := range map[string]int64{"in memory": 1 << 20, "far behind": 300} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := run(t, streamstest.Run(t).Connect(t), streams.Config{}, streams.TailConfig{MaxBytes: memory})
			subject := topicSubject(t, "releases")
			const enough = 10
			for have := range uint64(enough + 3) {
				for range 3 {
					g.publish("alice", "other")
					g.reached()
					got, err := g.tail.AtMost(testContext(t, patience), g.mark(), subject, 0, enough)
					if err != nil || got < have || got >= enough && got != have {
						t.Errorf("%d, %v, and it has %d", got, err, have)
					}
				}
				g.publishTopic("releases", "new")
			}
			if got, err := g.tail.AtMost(testContext(t, patience), g.mark(), topicSubject(t, "nothing"), 0, enough); err != nil || got != 0 {
				t.Errorf("%d, %v of a topic without messages", got, err)
			}
			last := g.reached()
			if got, err := g.tail.AtMost(testContext(t, patience), g.mark(), subject, last, enough); err != nil || name == "in memory" && got != 0 {
				t.Errorf("%d, %v behind all", got, err)
			}
		})
	}
}
