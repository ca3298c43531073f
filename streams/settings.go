package streams

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// newConfig is the stream as it is made where there is none.
func newConfig(cfg Config) jetstream.StreamConfig {
	maxAge := max(0, cmp.Or(cfg.MaxAge, DefaultMaxAge))
	duplicates := cmp.Or(cfg.Duplicates, DefaultDuplicates)
	if maxAge > 0 {
		duplicates = min(duplicates, maxAge) // the server insists
	}
	return jetstream.StreamConfig{
		Name:              cfg.Name,
		Description:       "Tidings: notifications to users and topics",
		Subjects:          []string{UserPrefix + "*", TopicPrefix + "*"},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		MaxAge:            maxAge,
		MaxMsgsPerSubject: cmp.Or(cfg.MaxMsgsPerSubject, DefaultMaxMsgsPerSubject),
		MaxBytes:          cmp.Or(cfg.MaxBytes, -1),
		MaxMsgs:           -1,
		MaxMsgSize:        int32(cmp.Or(max(0, cfg.MaxNotification), DefaultMaxNotification) + headerRoom),
		MaxConsumers:      cmp.Or(cfg.MaxConsumers, DefaultMaxConsumers),
		Duplicates:        duplicates,
		Replicas:          cmp.Or(cfg.Replicas, 1),
		AllowDirect:       true,
		AllowMsgTTL:       true,
		Metadata:          map[string]string{"tidings_version": "1"},
	}
}

// adjust says what an existing stream must become, and whether that is a change. Limits that Config leaves zero stay.
func adjust(have jetstream.StreamConfig, cfg Config) (want jetstream.StreamConfig, changed bool, err error) {
	want = have
	want.Metadata = maps.Clone(have.Metadata)
	switch {
	case have.Mirror != nil || len(have.Sources) > 0:
		return want, false, mismatch("it mirrors or sources another stream", "use another --stream")
	case have.Sealed:
		return want, false, mismatch("it is sealed", "use another --stream")
	case have.Retention != jetstream.LimitsPolicy:
		return want, false, mismatch(fmt.Sprintf("its retention is %q", have.Retention),
			"make it anew with limits retention: acknowledged notifications must stay for a user's other cursors")
	case have.PersistMode == jetstream.AsyncPersistMode:
		return want, false, mismatch("its persist mode is async: it acknowledges before it stores, and NATS cannot change that",
			"delete it (nats stream rm "+have.Name+"), or use another --stream")
	case have.Storage != jetstream.FileStorage:
		return want, false, mismatch("it is kept in memory, and NATS cannot change that",
			"delete it (nats stream rm "+have.Name+"), or use another --stream")
	}
	set := func(is bool, apply func()) {
		if !is {
			apply()
			changed = true
		}
	}
	for _, subject := range []string{UserPrefix + "*", TopicPrefix + "*"} {
		set(slices.Contains(have.Subjects, subject), func() { want.Subjects = append(slices.Clone(want.Subjects), subject) })
	}
	set(have.AllowDirect, func() { want.AllowDirect = true })
	set(have.AllowMsgTTL, func() { want.AllowMsgTTL = true })
	set(!have.NoAck, func() { want.NoAck = false })
	// -1 counts as "not set" with the server, which then allows 1,000.
	consumers := cmp.Or(cfg.MaxConsumers, DefaultMaxConsumers)
	set(have.MaxConsumers >= consumers, func() { want.MaxConsumers = consumers })

	if err := grow("max-age", &want.MaxAge, cfg.MaxAge, &changed); err != nil {
		return want, false, err
	}
	if err := grow("max-msgs-per-user", &want.MaxMsgsPerSubject, cfg.MaxMsgsPerSubject, &changed); err != nil {
		return want, false, err
	}
	if err := grow("max-bytes", &want.MaxBytes, cfg.MaxBytes, &changed); err != nil {
		return want, false, err
	}
	if size := int32(cfg.MaxNotification); size > 0 && have.MaxMsgSize > 0 && have.MaxMsgSize < size+headerRoom {
		set(false, func() { want.MaxMsgSize = size + headerRoom })
	}
	if cfg.Duplicates > 0 {
		set(have.Duplicates == cfg.Duplicates, func() { want.Duplicates = cfg.Duplicates })
	}
	if cfg.Replicas > 0 {
		set(have.Replicas == cfg.Replicas, func() { want.Replicas = cfg.Replicas })
	}
	return want, changed, nil
}

// grow raises a limit to what is asked for. Zero asks for nothing; a negative value, there or asked for, is no limit.
func grow[T ~int64](flag string, have *T, ask T, changed *bool) error {
	unlimited := *have <= 0
	switch {
	case ask == 0, ask == *have, ask < 0 && unlimited:
		return nil
	case ask < 0:
		*have, *changed = 0, true
		return nil
	case unlimited || ask < *have:
		return mismatch(fmt.Sprintf("its limit is %s, and --%s %s would delete what is over that", limit(*have), flag, limit(ask)),
			"leave the flag out to keep it, or shrink it yourself with nats stream edit")
	}
	*have, *changed = ask, true
	return nil
}

func limit[T ~int64](v T) string {
	if v <= 0 {
		return "none"
	}
	return fmt.Sprint(v)
}

func mismatch(what, todo string) error {
	return fmt.Errorf("%w: %s (%s)", ErrStreamMismatch, what, todo)
}
