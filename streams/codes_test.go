package streams

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestWhatPassesByItself(t *testing.T) {
	for _, err := range []error{errNotProven, errDisputed, errHole, errNotWarm, errNotSeen, jetstream.ErrStreamNotFound} {
		if !Passing(fmt.Errorf("cursor alice: %w", err)) {
			t.Errorf("%v does not pass", err)
		}
	}
	for _, err := range []error{nil, errors.New("x"), ErrReplaced, ErrBadName, &jetstream.APIError{Code: 400}} {
		if Passing(err) {
			t.Errorf("%v passes", err)
		}
	}
}
