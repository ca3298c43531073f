package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// nats.go reports each message whose headers it cannot parse, each time it is read. These are not logged, but a missing permission is.
func TestUnreadableHeadersAreNotLogged(t *testing.T) {
	var out bytes.Buffer
	opts := nats.GetDefaultOptions()
	for _, option := range natsOptions("test", zerolog.New(&out)) {
		if err := option(&opts); err != nil {
			t.Fatal(err)
		}
	}
	opts.AsyncErrorCB(nil, nil, nats.ErrBadHeaderMsg)
	if out.Len() > 0 {
		t.Errorf("logged %s", out.String())
	}
	opts.AsyncErrorCB(nil, nil, nats.ErrPermissionViolation)
	if !strings.Contains(out.String(), "permissions violation") {
		t.Errorf("logged %q", out.String())
	}
}
