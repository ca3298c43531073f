package delivery

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tidings-io/tidings/auth"
)

// How long an answer takes is told of those who were asked about. While a breaker is open they are few, and all others are turned away at
// once, which must not look like a quick responder.
func TestAuthDurationIsOfWhatWasAsked(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		err    error
		ctx    context.Context
		result string
		took   bool
	}{
		{nil, t.Context(), "admitted", true},
		{&auth.Refusal{Code: "token_unknown"}, t.Context(), "refused", true},
		{auth.ErrBadReply, t.Context(), "bad_reply", true},
		{fmt.Errorf("%w: nothing came", auth.ErrUnavailable), t.Context(), "unavailable", true},
		{&auth.Unavailable{}, t.Context(), "not_asked", false},
		{fmt.Errorf("%w: no turn", auth.ErrBusy), t.Context(), "busy", false},
		{context.Canceled, gone, "canceled", false},
	} {
		m := newMetrics("0.0.0")
		asked := countedAuth{auth.AuthenticatorFunc(func(context.Context, auth.Request) (auth.Identity, error) {
			return auth.Identity{User: "alice"}, c.err
		}), m}
		if _, err := asked.Authenticate(c.ctx, auth.Request{}); !errors.Is(err, c.err) {
			t.Fatal(err)
		}
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			switch f.GetName() {
			case "tidings_auth_requests_total":
				for _, each := range f.GetMetric() {
					if counted := each.GetCounter().GetValue() == 1; counted != (each.GetLabel()[0].GetValue() == c.result) {
						t.Errorf("%v: %v", c.err, each)
					}
				}
			case "tidings_auth_duration_seconds":
				if took := f.GetMetric()[0].GetHistogram().GetSampleCount() == 1; took != c.took {
					t.Errorf("%v: the duration was observed: %t", c.err, took)
				}
			}
		}
	}
}
