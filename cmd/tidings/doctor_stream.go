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
	"github.com/tidings-io/tidings/streams/embedded"
)

// nearlyFull is the usage, in percent, above which a check warns.
const nearlyFull = 80

// jetstream checks that JetStream replies, and how much of this account's limits is used.
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
	raise := "raise the account's limits"
	if d.nc.ConnectedServerName() == embedded.DefaultName {
		raise = "raise --max-store, or make room on the disk if it is not set"
	}
	return append(jetstreamFinding(account, raise, d.nc.MaxPayload()), d.strict(ctx)...)
}

// strict warns about a server that accepts requests with unknown fields. On such a server a publisher can purge the stream, whatever its
// permissions are: it names a subject of the API as the reply subject, and the server sends its acknowledgement there, which has a "seq" as a
// purge request has.
func (d *doctor) strict(ctx context.Context) []finding {
	const subject = "$JS.API.STREAM.NAMES"
	if !d.allowed(subject, d.probe) {
		return nil
	}
	msg, err := d.nc.RequestWithContext(ctx, subject, []byte(`{"tidings_doctor":1}`))
	var reply struct{ Error *jetstream.APIError }
	if err != nil || json.Unmarshal(msg.Data, &reply) != nil || reply.Error != nil {
		return nil
	}
	return poor("set strict: true in its jetstream block", "JetStream is not strict: a publisher can purge the stream")
}

func jetstreamFinding(account *jetstream.AccountInfo, raise string, maxPayload int64) []finding {
	all := []tier{{"", account.Tier}}
	for _, name := range slices.Sorted(maps.Keys(account.Tiers)) {
		all = append(all, tier{name + ": ", account.Tiers[name]})
	}
	var findings []finding
	for _, t := range all {
		findings = append(findings, t.finding(raise, maxPayload)...)
	}
	return findings
}

// tier is JetStream's usage and limits of an account, or of its streams with a certain number of replicas.
type tier struct {
	name string
	jetstream.Tier
}

func (t tier) finding(raise string, maxPayload int64) []finding {
	store := ""
	if t.Limits.MaxStore > 0 {
		store = " of " + sized(t.Limits.MaxStore)
	}
	found := fmt.Sprintf("%s%s on disk%s, %s%s, %s", t.name, sized(t.Store), store,
		counted(t.Streams, "stream"), ofLimit(t.Limits.MaxStreams), counted(t.Consumers, "consumer"))
	if t.Limits.MaxConsumers > 0 {
		found += ", at most " + grouped(t.Limits.MaxConsumers) + " on each stream" // see consumers
	}
	limit := t.Limits.MaxStore
	switch full := max(share(t.Store, limit), share(t.ReservedStore, limit)); {
	case full >= 100, limit > 0 && limit-int64(t.Store) < embedded.MinRoom(limit, maxPayload):
		return bad(raise+", or remove what is not needed: publishers are refused", "%s", found)
	case full > nearlyFull:
		return poor(raise+", before it is full", "%s", found)
	}
	return good("%s", found)
}

// ofLimit returns " of" and the limit, or "" if there is none.
func ofLimit(limit int) string {
	if limit <= 0 {
		return ""
	}
	return " of " + grouped(limit)
}

// share returns how much of the limit is used, in percent, or 0 if there is no limit.
func share[N int | int64 | uint64, M int | int64](have N, limit M) int {
	if limit <= 0 {
		return 0
	}
	return int(float64(have) / float64(limit) * 100)
}

// streamSettings checks that the stream exists, and that its settings are what a gateway needs.
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
		return bad("use that with --stream, or remove the subjects from it", "there is no stream %s, and %s has its subjects", name, in.Taken)
	case in.Info == nil:
		return poor("start a gateway, which creates it, or use the right --stream", "there is no stream %s", name)
	}
	if in.Unfit != nil {
		findings = failed(in.Unfit)
	}
	if len(in.Wrong) > 0 {
		findings = append(findings, bad("start a gateway, which restores these settings; a running one does so within a minute, or logs why not",
			"%s: %s", name, strings.Join(in.Wrong, ", "))...)
	}
	if in.Unfit != nil {
		return findings
	}
	cfg := in.Info.Config
	if len(in.Changes) > 0 {
		findings = append(findings, poor("start a gateway, which makes these changes", "%s: %s", name, strings.Join(in.Changes, ", "))...)
	}
	if cfg.DenyPurge || cfg.DenyDelete {
		findings = append(findings, poor("NATS cannot undo that: create another stream if notifications must be erased before they expire",
			"%s does not allow deleting or purging messages", name)...)
	}
	if cfg.MaxAge <= 0 && cfg.MaxBytes <= 0 {
		findings = append(findings, poor("set --max-age or --max-bytes of the gateway", "%s has no limit but that of each user, so it grows with every new user", name)...)
	}
	if findings == nil {
		return good("%s has the settings that a gateway needs: max-msgs-per-user %s, max-age %s, max-bytes %s", name,
			limited(cfg.MaxMsgsPerSubject, grouped), limited(cfg.MaxAge, hours), limited(cfg.MaxBytes, sized))
	}
	return findings
}

// limited formats a limit with show, or returns "none".
func limited[T int64 | time.Duration](limit T, show func(T) string) string {
	if limit <= 0 {
		return "none"
	}
	return show(limit)
}

// hours formats a duration, in hours if it is a whole number of them.
func hours(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

// space checks how full the stream is, and whether --max-bytes makes it drop messages before --max-age.
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
	if share(st.Bytes, cfg.MaxBytes) > nearlyFull && (cfg.MaxAge <= 0 || oldest < cfg.MaxAge) {
		return poor("raise --max-bytes, or lower --max-age: the oldest are dropped, unread or not", "%s", found)
	}
	return good("%s", found)
}

// consumers checks how many more users and devices can have a position.
func (d *doctor) consumers(context.Context) []finding {
	info := d.seen.Info
	if info == nil {
		return nil
	}
	have, limit := info.State.Consumers, d.seen.MaxConsumers
	if limit <= 0 {
		return poor("start a gateway, which raises max_consumers of the stream to 1,000,000",
			"%s; the stream has no limit of its own, so the server's limit applies: 1,000 unless default_max_consumers is higher",
			counted(have, "consumer"))
	}
	do, whose := "start a gateway, which raises max_consumers of the stream to 1,000,000", ""
	if own := info.Config.MaxConsumers; own <= 0 || own > limit {
		do, whose = "raise max_consumers of the NATS account", ", the limit of the NATS account"
	}
	found := fmt.Sprintf("%s of %s%s, one for each position and each gateway", grouped(have), grouped(limit), whose)
	switch full := share(have, limit); {
	case full >= 100:
		return bad(do, "%s: new users are refused", found)
	case full > nearlyFull:
		return poor(do, "%s", found)
	}
	return good("%s", found)
}

// replicas checks the replicas of the stream, and what the loss of a node would mean.
func (d *doctor) replicas(context.Context) []finding {
	info := d.seen.Info
	switch {
	case info == nil:
		return nil
	case info.Cluster == nil || info.Cluster.Name == "":
		return good("one server, not a cluster: while it is down, nothing is published or replayed")
	}
	return replicasFinding(info.Config.Replicas, info.Cluster)
}

func replicasFinding(want int, cluster *jetstream.ClusterInfo) []finding {
	var lagging []string
	all, current := 1, 1 // the leader
	for _, r := range cluster.Replicas {
		if r.Pending { // it is being added, and does not vote yet
			lagging = append(lagging, r.Name+" is new")
			continue
		}
		all++
		switch {
		case r.Offline:
			lagging = append(lagging, r.Name+" is offline")
		case !r.Current || r.Lag > 1000:
			lagging = append(lagging, fmt.Sprintf("%s lags by %s, last seen %s ago", r.Name, grouped(r.Lag), r.Active.Round(100*time.Millisecond)))
		default:
			current++
		}
	}
	found := fmt.Sprintf("%s in cluster %s, led by %s", counted(want, "replica"), cluster.Name, cluster.Leader)
	if len(lagging) > 0 {
		found += "; " + strings.Join(lagging, ", ")
	}
	switch {
	case 2*current <= all:
		return bad("start those nodes, or nothing can be published", "%s: no quorum", found)
	case len(lagging) > 0:
		return poor("start those nodes, or see why they lag: if one more fails, nothing can be published", "%s", found)
	case want == 1:
		return poor("use --replicas 3", "%s: while that node is down, nothing is published or replayed", found)
	case want == 2:
		return poor("use --replicas 3", "%s: while one of them is down, nothing can be published", found)
	}
	return good("%s", found)
}

// clock compares the server's clock with ours. Leases, the age of messages and their TTL depend on both.
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
