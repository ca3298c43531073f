package streams

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Inspection is how the stream is, and how Open would want it.
type Inspection struct {
	Info    *jetstream.StreamInfo // nil where there is none
	Wrong   []string              // settings that Tidings depends on, such as "allow_direct false → true", which a gateway puts back
	Changes []string              // limits that Open would change beside those, such as "max_consumers 1000 → 1000000"
	Unfit   error                 // why Open would refuse it: ErrStreamMismatch
	Taken   string                // where there is none: another stream that has its subjects
	Ahead   time.Duration         // of the server's clock against ours, at least

	MaxConsumers     int // that the stream may have, by the lower of its own limit and the account's; 0: neither has one
	AccountConsumers int // the account's limit for the consumers of one stream; 0: none, or not known
}

// Inspect looks at the stream that Open would open, and changes nothing. Unlike Open it does not wait for a leader that all
// replicas follow. The account is what NATS says of ours; nil: it is not known.
func Inspect(ctx context.Context, nc *nats.Conn, cfg Config, account *jetstream.AccountInfo) (in Inspection, err error) {
	s, err := newStream(nc, cfg)
	if err != nil {
		return in, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	asked := time.Now()
	in.Info, err = s.answer(ctx)
	answered := time.Now()
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		in.Taken, err = s.taken(ctx)
		return in, err
	}
	if err != nil {
		return in, fmt.Errorf("stream %s: %w", s.name, explain(err))
	}
	switch at := in.Info.TimeStamp; { // it was taken somewhen between
	case at.After(answered):
		in.Ahead = at.Sub(answered)
	case at.Before(asked):
		in.Ahead = at.Sub(asked)
	}
	asking, cancel := context.WithTimeout(ctx, requestTimeout/2)
	defer cancel()
	generation, err := s.generation(asking, in.Info)
	if err != nil { // this user may not ask, which is another finding
		generation = in.Info.Config.Metadata[metadataGeneration]
	}
	in.AccountConsumers = consumersAllowed(account, in.Info.Config.Replicas)
	in.MaxConsumers = max(0, in.Info.Config.MaxConsumers)
	if most := consumersAllowed(account, cmp.Or(cfg.CursorReplicas, in.Info.Config.Replicas)); most > 0 {
		in.MaxConsumers = min(cmp.Or(in.MaxConsumers, most), most)
	}
	right, err := repairable(in.Info, generation)
	if err == nil {
		in.Wrong = differences(in.Info.Config, right)
		var want jetstream.StreamConfig
		want, err = adjust(in.Info, generation, s.cfg, in.AccountConsumers)
		in.Changes = differences(right, want)
	}
	if err != nil {
		in.Unfit = fmt.Errorf("stream %s: %w", s.name, err)
	}
	return in, nil
}

// consumersAllowed is the account's limit for consumers of one stream that have so many replicas; 0: none, or not known.
func consumersAllowed(account *jetstream.AccountInfo, replicas int) int {
	if account == nil {
		return 0
	}
	tier := account.Tier
	if t, ok := account.Tiers[fmt.Sprintf("R%d", replicas)]; ok {
		tier = t
	}
	return max(0, tier.Limits.MaxConsumers)
}

// taken names a stream that has the subjects of one that does not exist.
func (s *Stream) taken(ctx context.Context) (string, error) {
	for _, subject := range newConfig(s.cfg).Subjects {
		name, err := s.js.StreamNameBySubject(ctx, subject)
		if err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) {
			return name, explain(err)
		}
	}
	return "", nil
}

// differences names the settings, as the NATS tools do, that are not the same.
func differences(have, want jetstream.StreamConfig) (changes []string) {
	h, w := settings(have), settings(want)
	both := maps.Clone(h) // one that is off is left out
	maps.Copy(both, w)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		if from, to := shown(name, h[name]), shown(name, w[name]); from != to {
			changes = append(changes, fmt.Sprintf("%s %s → %s", name, from, to))
		}
	}
	return changes
}

func settings(cfg jetstream.StreamConfig) (all map[string]json.RawMessage) {
	text, _ := json.Marshal(cfg)
	_ = json.Unmarshal(text, &all)
	return all
}

func shown(name string, value json.RawMessage) string {
	var d time.Duration
	if slices.Contains([]string{"max_age", "duplicate_window", "subject_delete_marker_ttl"}, name) && json.Unmarshal(value, &d) == nil {
		return d.String()
	}
	if len(value) == 0 {
		return "none"
	}
	return strings.ReplaceAll(string(value), `"`, "")
}

// MaxMessage is how many bytes a notification may have with its headers.
func (c Config) MaxMessage() int64 {
	return int64(cmp.Or(c.MaxNotification, DefaultMaxNotification)) + headerRoom
}

// CheckServer returns an error that wraps ErrOldServer for a version of nats-server that lacks what Tidings needs.
func CheckServer(version string) error {
	if older(version, minServer) {
		return fmt.Errorf("%w: %s, Tidings needs %s", ErrOldServer, version, minServer)
	}
	return nil
}
