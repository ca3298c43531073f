package main

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

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
)

// nearly full is from here on, in hundredths.
const nearly = 80

// jetstream says whether JetStream answers, and how much it still takes for this account.
func (d *doctor) jetstream(ctx context.Context) []finding {
	if !d.mayAsk("$JS.API.INFO") {
		return nil
	}
	js, err := jetstream.New(d.nc)
	if err != nil {
		return bad("", "%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	account, err := js.AccountInfo(ctx)
	if err != nil {
		d.mute = true
		if errors.Is(err, context.DeadlineExceeded) {
			return bad("has the cluster a leader? start more of its nodes", "no answer: %v", err)
		}
		return bad("start nats-server with -js, enable JetStream for this account, or use --data for the embedded server", "%v", err)
	}
	d.account = account
	return append(jetstreamFinding(account), d.lax(ctx)...)
}

// lax finds a server that takes requests with fields that it does not know. Then a publisher who names a subject of the API as the one on
// which to acknowledge has the server purge the stream, whatever the permissions say: an acknowledgement has a "seq" as well.
func (d *doctor) lax(ctx context.Context) []finding {
	const subject = "$JS.API.STREAM.NAMES"
	if !d.allowed(subject, d.probe) {
		return nil
	}
	msg, err := d.nc.RequestWithContext(ctx, subject, []byte(`{"tidings_doctor":1}`))
	var reply struct{ Error *jetstream.APIError }
	if err != nil || json.Unmarshal(msg.Data, &reply) != nil || reply.Error != nil {
		return nil
	}
	return poor("set strict: true in its jetstream block", "JetStream is not strict: who may publish can have the stream purged")
}

func jetstreamFinding(account *jetstream.AccountInfo) []finding {
	all := []tier{{"", account.Tier}}
	for _, name := range slices.Sorted(maps.Keys(account.Tiers)) {
		all = append(all, tier{name + ": ", account.Tiers[name]})
	}
	var findings []finding
	for _, t := range all {
		findings = append(findings, t.finding()...)
	}
	return findings
}

// tier is JetStream's limits of an account, or of its streams with so many replicas.
type tier struct {
	name string
	jetstream.Tier
}

func (t tier) finding() []finding {
	store := ""
	if t.Limits.MaxStore > 0 {
		store = " of " + sized(t.Limits.MaxStore)
	}
	found := fmt.Sprintf("%s%s on disk%s, %s%s, %s", t.name, sized(t.Store), store,
		counted(t.Streams, "stream"), most(t.Limits.MaxStreams), counted(t.Consumers, "consumer"))
	if t.Limits.MaxConsumers > 0 {
		found += ", at most " + grouped(t.Limits.MaxConsumers) + " on each stream" // see consumers
	}
	switch full := max(share(t.Store, t.Limits.MaxStore), share(t.ReservedStore, t.Limits.MaxStore)); {
	case full >= 100:
		return bad("raise the account's limits, or remove what is not needed: publishers are refused", "%s", found)
	case full > nearly:
		return poor("raise the account's limits before it is full", "%s", found)
	}
	return good("%s", found)
}

func most(limit int) string {
	if limit <= 0 {
		return ""
	}
	return " of " + grouped(limit)
}

// share is in hundredths; 0 where there is no limit.
func share[N int | int64 | uint64, M int | int64](have N, limit M) int {
	if limit <= 0 {
		return 0
	}
	return int(float64(have) / float64(limit) * 100)
}

// streamSettings says whether the stream is there, and as a gateway would have it.
func (d *doctor) streamSettings(ctx context.Context) (findings []finding) {
	name := cmp.Or(d.stream.cfg.Name, streams.DefaultName)
	if !d.mayAsk("$JS.API.STREAM.INFO."+name) || d.mute {
		return nil
	}
	in, err := streams.Inspect(ctx, d.nc, d.stream.cfg, d.account)
	if err != nil {
		return bad("see the server's log; a replicated stream needs most of its nodes", "%v", err)
	}
	d.seen = in
	switch {
	case in.Taken != "":
		return bad("name that with --stream, or take the subjects from it", "there is no stream %s, and %s has its subjects", name, in.Taken)
	case in.Info == nil:
		return poor("start a gateway, which makes it, or name the right --stream", "there is no stream %s", name)
	}
	if in.Unfit != nil {
		findings = failed(in.Unfit)
	}
	if len(in.Wrong) > 0 {
		findings = append(findings, bad("start a gateway, which puts that back; one that runs does so within a minute, or its log says why not",
			"%s: %s", name, strings.Join(in.Wrong, ", "))...)
	}
	if in.Unfit != nil {
		return findings
	}
	cfg := in.Info.Config
	if len(in.Changes) > 0 {
		findings = append(findings, poor("start a gateway, which changes that", "%s: %s", name, strings.Join(in.Changes, ", "))...)
	}
	if cfg.DenyPurge || cfg.DenyDelete {
		findings = append(findings, poor("NATS cannot undo that: make another stream if notifications must be erased before their time",
			"%s denies to delete or purge messages", name)...)
	}
	if cfg.MaxAge <= 0 && cfg.MaxBytes <= 0 {
		findings = append(findings, poor("give a gateway --max-age or --max-bytes", "%s has no limit but that of each user, so it grows with every new user", name)...)
	}
	if findings == nil {
		return good("%s is as a gateway wants it: max-msgs-per-user %s, max-age %s, max-bytes %s", name,
			limited(cfg.MaxMsgsPerSubject, grouped), limited(cfg.MaxAge, lasting), limited(cfg.MaxBytes, sized))
	}
	return findings
}

// limited shows a limit, or that there is none.
func limited[T int64 | time.Duration](limit T, show func(T) string) string {
	if limit <= 0 {
		return "none"
	}
	return show(limit)
}

func lasting(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

// space says how full the stream is, and whether its size has it drop messages before their time.
func (d *doctor) space(context.Context) []finding {
	info := d.seen.Info
	if info == nil {
		return nil
	}
	cfg, st := info.Config, info.State
	found := fmt.Sprintf("%s in %s", counted(st.Msgs, "notification"), sized(st.Bytes))
	if cfg.MaxBytes > 0 {
		found += " of " + sized(cfg.MaxBytes)
	}
	if st.Msgs == 0 {
		return good("%s", found)
	}
	oldest := info.TimeStamp.Sub(st.FirstTime)
	found += fmt.Sprintf(", the oldest from %s ago", max(time.Second, oldest.Round(time.Second)))
	if share(st.Bytes, cfg.MaxBytes) > nearly && (cfg.MaxAge <= 0 || oldest < cfg.MaxAge) {
		return poor("raise --max-bytes, or lower --max-age: the oldest are dropped, unread or not", "%s", found)
	}
	return good("%s", found)
}

// consumers says how many more users can have a position.
func (d *doctor) consumers(context.Context) []finding {
	info := d.seen.Info
	if info == nil {
		return nil
	}
	have, limit := info.State.Consumers, d.seen.MaxConsumers
	if limit <= 0 {
		return poor("start a gateway, which raises max_consumers of the stream to 1,000,000",
			"%s; the stream has no limit of its own, so that of the server holds: 1,000 unless default_max_consumers says more",
			counted(have, "consumer"))
	}
	do, whose := "start a gateway, which raises max_consumers of the stream to 1,000,000", ""
	if own := info.Config.MaxConsumers; own <= 0 || own > limit {
		do, whose = "raise max_consumers of the NATS account", ", the limit of the NATS account"
	}
	found := fmt.Sprintf("%s of %s%s, one for each position and each gateway", grouped(have), grouped(limit), whose)
	switch full := share(have, limit); {
	case full >= 100:
		return bad(do, "%s: newcomers are refused", found)
	case full > nearly:
		return poor(do, "%s", found)
	}
	return good("%s", found)
}

// replicas says what the loss of a node would mean.
func (d *doctor) replicas(context.Context) []finding {
	info := d.seen.Info
	switch {
	case info == nil:
		return nil
	case info.Cluster == nil || info.Cluster.Name == "":
		return good("one server, which is no cluster: while it is away, nothing is published or replayed")
	}
	return replicasFinding(info.Config.Replicas, info.Cluster)
}

func replicasFinding(want int, cluster *jetstream.ClusterInfo) []finding {
	var lagging []string
	all, follow := 1, 1 // the leader
	for _, r := range cluster.Replicas {
		if r.Pending { // it is being added, and has no vote yet
			lagging = append(lagging, r.Name+" is new")
			continue
		}
		all++
		switch {
		case r.Offline:
			lagging = append(lagging, r.Name+" is offline")
		case !r.Current || r.Lag > 1000:
			lagging = append(lagging, fmt.Sprintf("%s lags by %s, and was heard of %s ago", r.Name, grouped(r.Lag), r.Active.Round(100*time.Millisecond)))
		default:
			follow++
		}
	}
	found := fmt.Sprintf("%s in cluster %s, led by %s", counted(want, "replica"), cluster.Name, cluster.Leader)
	if len(lagging) > 0 {
		found += "; " + strings.Join(lagging, ", ")
	}
	switch {
	case 2*follow <= all:
		return bad("start those nodes, or nothing can be published", "%s: no quorum", found)
	case len(lagging) > 0:
		return poor("start those nodes, or see why they lag: one more, and nothing can be published", "%s", found)
	case want == 1:
		return poor("--replicas 3", "%s: while that is away, nothing is published or replayed", found)
	case want == 2:
		return poor("--replicas 3", "%s: while one of them is away, nothing can be published", found)
	}
	return good("%s", found)
}

// clock compares the server's with ours. Leases, the age of messages and their own time to live go by both.
func (d *doctor) clock(context.Context) []finding {
	if d.seen.Info == nil {
		return nil
	}
	return clockFinding(d.seen.Ahead)
}

func clockFinding(ahead time.Duration) []finding {
	switch off := ahead.Round(time.Millisecond); {
	case off > 2*time.Second:
		return poor("run NTP on both machines", "the server's clock is %s ahead of ours", off)
	case off < -2*time.Second:
		return poor("run NTP on both machines", "the server's clock is %s behind ours", -off)
	}
	return good("the server's clock agrees with ours")
}
