package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams"
)

// probeName replaces the wildcards of subjects in probes. No user, consumer or stream has this name.
const probeName = "tidings-doctor"

// server connects as a gateway would.
func (d *doctor) server(context.Context) []finding {
	if d.nats.url == "" { // the embedded server does not run
		return nil
	}
	nc, err := d.nats.connect("tidings doctor", zerolog.Nop())
	if err != nil {
		return failed(err)
	}
	d.nc = nc
	rtt, err := nc.RTT()
	if err != nil {
		return bad("is the network slow, or the server overloaded?", "%s does not answer a ping: %v", redacted(nc.ConnectedUrl()), err)
	}
	found := fmt.Sprintf("%s, %s away", redacted(nc.ConnectedUrl()), rtt.Round(10*time.Microsecond))
	if state, err := nc.TLSConnectionState(); err == nil {
		return good("%s, %s", found, tls.VersionName(state.Version))
	}
	ip := net.ParseIP(hostOf(nc.ConnectedAddr()))
	if ip != nil && !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() {
		return poor("give the server a tls block, and use --nats tls://… and --nats-ca", "%s, without TLS over a public network", found)
	}
	return good("%s, without TLS", found)
}

// version checks that the server is recent enough.
func (d *doctor) version(context.Context) []finding {
	if d.nc == nil {
		return nil
	}
	return versionFinding(d.nc.ConnectedServerVersion())
}

func versionFinding(have string) []finding {
	err := streams.CheckServer(have)
	switch {
	case err != nil:
		return bad("upgrade nats-server, or use --data for the embedded one", "%v", err)
	case slices.Contains([]string{"2.14.8", "2.14.9", "2.15.1", "2.15.2"}, have):
		return good("nats-server %s, which takes 10 ms for each position to stop", have)
	}
	return good("nats-server %s", have)
}

// payload checks that the server accepts messages as large as the largest notification.
func (d *doctor) payload(context.Context) []finding {
	if d.nc == nil {
		return nil
	}
	limit, need := d.nc.MaxPayload(), d.stream.cfg.MaxMessage()
	if limit < need {
		return bad(fmt.Sprintf("set max_payload of the server to %d or more, or lower --max-notification", need),
			"the server accepts messages of %s, a notification and its headers may have %s", sized(limit), sized(need))
	}
	return good("the server accepts messages of %s, a notification and its headers may have %s", sized(limit), sized(need))
}

// rights checks the permissions of the NATS user. It tries every subject that a gateway uses, with messages that have no effect.
func (d *doctor) rights(context.Context) (findings []finding) {
	if d.nc == nil {
		return nil
	}
	who := "this NATS user"
	if d.nats.user != "" {
		who = d.nats.user
	}
	publish, subscribe := d.stream.cfg.Rights()
	morePublish, moreSubscribe := delivery.Rights()
	const advisory, listed = "$JS.EVENT.ADVISORY.API", "$SRV.PING"
	optional := map[string]string{ // subjects that a gateway can do without, and the effect
		"notify.user.*":  "the HTTP API cannot publish",
		"notify.topic.*": "the HTTP API cannot publish to topics",
		advisory:         "messages that an operator deletes are still delivered from memory, until newer ones replace them there",
		listed:           "nats service ls does not show the gateway",
		"$JS.API.INFO":   "doctor cannot check the limits of the account",
	}
	const do = "allow it, as cmd/tidings/deploy/nats-server.conf does; --nats-inbox sets the prefix of subjects for replies"
	ask := func(verb string, subjects []string, try func(string) error) {
		var missing []string
		for _, subject := range subjects {
			if d.allowed(strings.NewReplacer("*", probeName, ">", probeName).Replace(subject), try) {
				continue
			}
			d.denied[subject] = true
			if effect, ok := optional[subject]; ok {
				findings = append(findings, poor(do, "%s may not %s %s: %s", who, verb, subject, effect)...)
			} else {
				missing = append(missing, subject)
			}
		}
		if len(missing) > 0 {
			findings = append(findings, bad(do, "%s may not %s %s", who, verb, strings.Join(missing, ", "))...)
		}
	}
	ask("publish to", slices.Concat(publish, morePublish, []string{"$JS.API.INFO"}), d.probe)
	ask("subscribe to", slices.Concat(subscribe, moreSubscribe, []string{listed, d.inbox()}), d.listenTo)
	if findings == nil {
		return good("%s may do all that a gateway does", who)
	}
	return findings
}

// probe publishes a message that has no effect: no API takes it for a request, no stream stores it, and gateways ignore it.
func (d *doctor) probe(subject string) error {
	msg := nats.NewMsg(subject)
	msg.Data = []byte("{}")
	msg.Header.Set("Nats-Required-Api-Level", "1000000")
	msg.Header.Set(jetstream.ExpectedStreamHeader, probeName)
	return d.nc.PublishMsg(msg)
}

func (d *doctor) listenTo(subject string) error {
	sub, err := d.nc.SubscribeSync(subject)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	return d.nc.FlushTimeout(5 * time.Second)
}

// allowed reports whether permissions allow try on the subject. NATS reports a violation before it replies to the flush.
func (d *doctor) allowed(subject string, try func(string) error) bool {
	if err := errors.Join(try(subject), d.nc.FlushTimeout(5*time.Second)); err != nil {
		return true // a lost connection says nothing about permissions
	}
	err := d.nc.LastError()
	return !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`)
}

// inbox returns the subject on which we receive replies.
func (d *doctor) inbox() string {
	return cmp.Or(d.nats.inbox, strings.TrimSuffix(nats.InboxPrefix, ".")) + ".>"
}

// mayAsk reports whether we are connected and permissions allow a request on the subject, and its reply.
func (d *doctor) mayAsk(subject string) bool {
	return d.nc != nil && !d.denied[subject] && !d.denied[d.inbox()]
}
