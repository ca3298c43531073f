package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/tidings-io/tidings/auth"
)

// responder checks the backend. It sends an authentication request with a random token, which the backend must refuse.
func (d *doctor) responder(ctx context.Context) []finding {
	if d.nc == nil || d.denied[d.inbox()] {
		return nil
	}
	asked := time.Now()
	id, err := auth.NewRequester(d.nc, auth.RequesterConfig{Subject: d.authSubject, Timeout: d.authTimeout}).Authenticate(ctx, auth.Request{
		Token: probeName + "-" + rand.Text(), Conn: probeName, UserAgent: "tidings doctor",
	})
	took := time.Since(asked)
	if denied := d.nc.LastError(); err != nil && denied != nil && strings.Contains(denied.Error(), `"`+d.authSubject+`"`) {
		return bad("allow it, or name the right --auth-subject", "this NATS user may not publish to %s", d.authSubject)
	}
	who := ""
	if !errors.Is(err, auth.ErrUnavailable) {
		who = d.services(ctx)
	}
	switch { // with --dev the gateway runs its own responder
	case d.dev && err == nil:
		return good("%s accepts any token, which is intended with --dev", who)
	case d.dev && errors.Is(err, auth.ErrUnavailable):
		return poor("start the gateway, which with --dev runs its own responder", "there is no responder on %s", d.authSubject)
	}
	return responderFinding(who, id, err, took, d.authTimeout)
}

func responderFinding(who string, id auth.Identity, err error, took, timeout time.Duration) []finding {
	var refusal *auth.Refusal
	after := took.Round(100 * time.Microsecond)
	switch {
	case err == nil:
		return bad("it must check tokens; only --dev may accept any", "%s accepts any token: it takes a random one for user %q", who, id.User)
	case errors.Is(err, auth.ErrBadReply):
		return bad("reply as auth/README.md says", "the reply of %s is not understood: %v", who, err)
	case !errors.As(err, &refusal):
		return failed(err)
	case refusal.RetryAfter > 0:
		return poor("see its log: does the service work that it depends on?", "%s cannot check tokens: %v", who, refusal)
	case took > timeout/2:
		return poor("run more of them, or raise --auth-timeout", "%s refuses a random token, but took %s of %s", who, after, timeout)
	}
	return good("%s refuses a random token, with %s, in %s", who, refusal.Code, after)
}

// services returns the name of the NATS service on the subject of authentication requests. A responder need not be a NATS service; then it
// returns a description.
func (d *doctor) services(ctx context.Context) string {
	const unknown = "the responder (not a NATS service)"
	inbox := d.nc.NewInbox()
	sub, err := d.nc.SubscribeSync(inbox)
	if err != nil {
		return unknown
	}
	defer func() { _ = sub.Unsubscribe() }()
	subject, err := micro.ControlSubject(micro.InfoVerb, "", "")
	if err != nil || d.nc.PublishRequest(subject, inbox, nil) != nil {
		return unknown
	}
	name, n := "", 0
	for {
		wait, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		msg, err := sub.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			break
		}
		var info micro.Info
		if json.Unmarshal(msg.Data, &info) != nil {
			continue
		}
		for _, endpoint := range info.Endpoints {
			if endpoint.Subject == d.authSubject {
				name, n = info.Name+" "+info.Version, n+1
			}
		}
	}
	switch n {
	case 0:
		return unknown
	case 1:
		return name
	}
	return fmt.Sprintf("one of %d services such as %s", n, name)
}
