package streams

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// repairable returns the stream's settings with those put right that Tidings depends on: all releases agree on them, and the change
// deletes nothing. It leaves every limit as it is. Generation is the latest that was seen of the stream. The error wraps ErrStreamMismatch and names what cannot be put right, and what to do.
func repairable(info *jetstream.StreamInfo, generation string) (want jetstream.StreamConfig, err error) {
	have, state := info.Config, info.State
	anew := "delete it with nats stream rm " + have.Name + ", or use another --stream"
	switch {
	case have.Mirror != nil || len(have.Sources) > 0:
		err = mismatch("it mirrors or sources another stream", "use another --stream")
	case have.Sealed:
		err = mismatch("it is sealed, which NATS cannot undo", anew)
	case have.Retention == jetstream.WorkQueuePolicy:
		err = mismatch(fmt.Sprintf("its retention is %q, and NATS cannot change that", have.Retention), anew)
	case have.PersistMode == jetstream.AsyncPersistMode:
		err = mismatch("its persist mode is async: it acknowledges before it stores, and NATS cannot change that", anew)
	case have.Storage != jetstream.FileStorage:
		err = mismatch("it is kept in memory, and NATS cannot change that", anew)
	case have.AllowMsgSchedules:
		err = mismatch("it allows message schedules, with which any publisher can empty it, and NATS cannot switch them off", anew)
	case have.AllowMsgCounter:
		err = mismatch("it is a stream of counters, and NATS cannot change that", anew)
	case redirects(have.SubjectTransform):
		err = mismatch(fmt.Sprintf("it stores what comes to %q as %q, where no user reads it", have.SubjectTransform.Source, have.SubjectTransform.Destination),
			"remove the subject transform: nats stream edit")
	case have.Discard == jetstream.DiscardNew && (over(state.Msgs, have.MaxMsgs) || over(state.Bytes, have.MaxBytes)):
		err = mismatch("it refuses what is new (discard new) and holds more than its limit, so that discard old would delete the excess",
			"raise max_msgs or max_bytes, or decide for the loss: nats stream edit "+have.Name+" --discard old")
	}
	want = withGeneration(have, generation)
	for _, subject := range []string{UserPrefix + "*", TopicPrefix + "*"} {
		tokens := strings.Split(subject, ".")
		covers := func(have string) bool { return matches(tokens, strings.Split(have, ".")) }
		if slices.ContainsFunc(have.Subjects, covers) {
			continue
		}
		// NATS refuses two subjects of a stream that overlap: those that are a part of the missing one go.
		part := func(have string) bool { return matches(strings.Split(have, "."), tokens) }
		want.Subjects = slices.DeleteFunc(slices.Clone(want.Subjects), part)
		overlaps := func(have string) bool { return overlap(strings.Split(have, "."), tokens) }
		if i := slices.IndexFunc(want.Subjects, overlaps); i >= 0 && err == nil {
			err = mismatch(fmt.Sprintf("it lacks the subject %q, with which its subject %q overlaps", subject, want.Subjects[i]),
				fmt.Sprintf("replace that: nats stream edit %s --subjects %s*,%s*", have.Name, UserPrefix, TopicPrefix))
		}
		want.Subjects = append(want.Subjects, subject)
	}
	want.AllowDirect, want.AllowMsgTTL, want.NoAck = true, true, false
	want.Retention = jetstream.LimitsPolicy
	want.Discard, want.DiscardNewPerSubject = jetstream.DiscardOld, false
	// With these any publisher could remove what others have published, or have the server hold batches that never end. Delete markers
	// force rollups on.
	want.AllowRollup, want.SubjectDeleteMarkerTTL = false, 0
	want.AllowAtomicPublish, want.AllowBatchPublish = false, false
	want.ConsumerLimits.InactiveThreshold = 0 // the server would remove the position of each user who stays away for so long
	return want, err
}

// redirects reports whether a transform may store notifications under subjects that nobody reads.
func redirects(t *jetstream.SubjectTransformConfig) bool {
	if t == nil {
		return false
	}
	source := strings.Split(t.Source, ".")
	return t.Source == "" || overlap(source, strings.Split(UserPrefix+"*", ".")) || overlap(source, strings.Split(TopicPrefix+"*", "."))
}

// overlap reports whether some subject matches both filters.
func overlap(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == ">" || b[i] == ">":
			return true
		case a[i] != "*" && b[i] != "*" && a[i] != b[i]:
			return false
		}
	}
	return len(a) == len(b)
}

func over(have uint64, limit int64) bool { return limit > 0 && have > uint64(limit) }

// wanted is repairable with the generation that is known.
func (s *Stream) wanted(ctx context.Context, info *jetstream.StreamInfo) (want jetstream.StreamConfig, err error) {
	generation, err := s.generation(ctx, info)
	if err != nil {
		return want, err
	}
	if want, err = repairable(info, generation); err != nil {
		return want, fmt.Errorf("stream %s: %w", s.name, err)
	}
	return want, nil
}

// update changes the stream's settings. An update that ends interest retention starts a new epoch: NATS has deleted what it thought that
// nobody waits for, wherever it lay, and a gap must report that.
func (s *Stream) update(ctx context.Context, have, want jetstream.StreamConfig) error {
	if have.Retention == jetstream.InterestPolicy && want.Retention == jetstream.LimitsPolicy {
		want = withGeneration(want, nextGeneration(want.Metadata[metadataGeneration]))
	}
	_, err := s.js.UpdateStream(ctx, want)
	if has(err, codeNoConsumers) && want.MaxConsumers > 0 { // more than the account allows, whose limit holds then
		if want.MaxConsumers = -1; len(differences(have, want)) == 0 {
			return nil
		}
		_, err = s.js.UpdateStream(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("update stream %s: %w", s.name, explain(err))
	}
	return nil
}

// settingsKeeper is what a Tail knows of the stream's settings. All but problem belongs to the goroutine that follows the stream.
type settingsKeeper struct {
	problem atomic.Pointer[error] // why the stream cannot be relied on; nil: its settings are right
	tried   map[string]time.Time  // when each setting was last put back
	failed  error                 // of the last attempt
}

const (
	keepEvery  = 30 // polls, a minute by default, from one attempt to put a setting back to the next: somebody else may insist on theirs
	keepWithin = 2 * time.Second
)

// heldError is a problem with settings that the gateway leaves until due. Its text says how many seconds are left when it is asked for,
// so that two for the same problem are equal at any time.
type heldError struct {
	error
	then string // what the gateway does then
	due  time.Time
}

func (e *heldError) Error() string {
	return fmt.Sprintf("%s; %s in %.0f s", e.error, e.then, max(1, math.Ceil(time.Until(e.due).Seconds())))
}

func (e *heldError) Unwrap() error { return e.error }

// held returns an error if all of the changed settings were put back a short time ago. If one was not, all are put back: settings
// depend on each other, and NATS accepts some of them only together.
func (t *Tail) held(changes []string) error {
	k := &t.settings
	var due time.Time // of the first
	for i, change := range changes {
		if at := k.tried[settingOf(change)].Add(keepEvery * t.cfg.Poll); i == 0 || at.Before(due) {
			due = at
		}
	}
	switch {
	case !time.Now().Before(due):
		return nil
	case k.failed != nil:
		return &heldError{k.failed, "the gateway tries again", due}
	}
	return &heldError{fmt.Errorf("stream %s: %w: changed again right after it was put back: %s (find out what changes it)",
		t.stream.name, ErrStreamMismatch, strings.Join(changes, ", ")), "it is put back", due}
}

// settingOf returns the name at the beginning of a line of differences.
func settingOf(change string) string {
	name, _, _ := strings.Cut(change, " ")
	return name
}

// keepSettings puts back the settings that Tidings depends on. What it cannot put back, Check reports.
func (t *Tail) keepSettings(ctx context.Context, info *jetstream.StreamInfo) {
	err := t.putBack(ctx, info)
	if ctx.Err() != nil {
		return
	}
	before := t.settingsProblem()
	switch {
	case err == nil:
		if t.settings.problem.Store(nil); before != nil {
			t.log.Info().Msg("stream settings are right again")
		}
	default:
		if t.settings.problem.Store(&err); before == nil || before.Error() != err.Error() {
			t.log.Error().Err(err).Msg("stream settings are wrong")
		}
	}
}

func (t *Tail) putBack(ctx context.Context, info *jetstream.StreamInfo) error {
	k := &t.settings
	want, err := t.stream.wanted(ctx, info)
	if err != nil {
		return err
	}
	changes := differences(info.Config, want)
	if len(changes) == 0 {
		if k.failed != nil { // somebody else put them back
			k.failed = nil
			clear(k.tried)
		}
		if err := t.stream.keepGeneration(ctx, info.Created); err != nil && ctx.Err() == nil {
			t.oddLog.Warn().Err(err).Msg("no second copy of the stream's generation")
		}
		return nil
	}
	if err := t.held(changes); err != nil {
		return err
	}
	// All gateways see it at the same time: one is first, and the others find it done.
	if err := pause(ctx, rand.N(min(newEpochWithin, t.cfg.Poll))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, keepWithin)
	defer cancel()
	if info, err = t.stream.info(ctx); err != nil {
		return fmt.Errorf("stream %s: %w", t.stream.name, explain(err))
	}
	if want, err = t.stream.wanted(ctx, info); err != nil {
		return err
	}
	if changes = differences(info.Config, want); len(changes) == 0 {
		return nil
	}
	if err := t.held(changes); err != nil { // another gateway has put back the one that was due
		return err
	}
	t.log.Warn().Strs("changes", changes).Msg("putting stream settings back")
	k.failed = t.stream.update(ctx, info.Config, want)
	for _, change := range changes {
		k.tried[settingOf(change)] = time.Now()
	}
	if k.failed != nil {
		k.failed = fmt.Errorf("%w: %s: %w", ErrStreamMismatch, strings.Join(changes, ", "), k.failed)
		return t.held(changes)
	}
	return nil
}

// settingsProblem is why the stream's settings make it unreliable; nil: they are right, as far as is known.
func (t *Tail) settingsProblem() error {
	if p := t.settings.problem.Load(); p != nil {
		return *p
	}
	return nil
}
