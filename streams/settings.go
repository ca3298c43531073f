package streams

import (
	"cmp"
	"fmt"

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

// adjust says what an existing stream must become. Limits that Config leaves zero stay. Of the account's limit of consumers, 0 if it has
// none or it is not known, the stream has no more: what is over it, the server refuses.
func adjust(info *jetstream.StreamInfo, generation string, cfg Config, accountConsumers int) (want jetstream.StreamConfig, err error) {
	if want, err = repairable(info, generation); err != nil {
		return want, err
	}
	// -1 counts as "not set" with the server, which then allows 1,000.
	switch have, ask := want.MaxConsumers, cmp.Or(cfg.MaxConsumers, DefaultMaxConsumers); {
	case accountConsumers <= 0 || ask <= accountConsumers:
		want.MaxConsumers = max(have, ask)
	case have > 0 && have < accountConsumers:
		want.MaxConsumers = -1 // the account's limit holds
	}

	if err := grow("max-age", &want.MaxAge, cfg.MaxAge); err != nil {
		return want, err
	}
	if err := grow("max-msgs-per-user", &want.MaxMsgsPerSubject, cfg.MaxMsgsPerSubject); err != nil {
		return want, err
	}
	if err := grow("max-bytes", &want.MaxBytes, cfg.MaxBytes); err != nil {
		return want, err
	}
	if size := int32(cfg.MaxNotification); size > 0 && want.MaxMsgSize > 0 {
		want.MaxMsgSize = max(want.MaxMsgSize, size+headerRoom)
	}
	if cfg.Duplicates > 0 {
		want.Duplicates = cfg.Duplicates
	}
	if cfg.Replicas > 0 {
		want.Replicas = cfg.Replicas
	}
	return want, nil
}

// grow raises a limit to what is asked for. Zero asks for nothing; a negative value, there or asked for, is no limit.
func grow[T ~int64](flag string, have *T, ask T) error {
	unlimited := *have <= 0
	switch {
	case ask == 0, ask == *have, ask < 0 && unlimited:
		return nil
	case ask < 0:
		*have = 0
		return nil
	case unlimited || ask < *have:
		return mismatch(fmt.Sprintf("its limit is %s, and --%s %s would delete what is over that", limit(*have), flag, limit(ask)),
			"leave the flag out to keep it, or shrink it yourself with nats stream edit")
	}
	*have = ask
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
