package delivery

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/streams"
)

// checkName refuses the name of a user, topic or device that no subject can hold, or that a JSON decoder has damaged: it puts U+FFFD in
// place of a lone surrogate, so that two names become one. The error wraps streams.ErrBadName.
func checkName(what, name string) error {
	if _, err := streams.EncodeToken(name); err != nil {
		return fmt.Errorf("%s %.40q: %w", what, name, err)
	}
	if damaged(name) {
		return fmt.Errorf("%s %.40q: %w: its encoding is broken, it contains U+FFFD", what, name, streams.ErrBadName)
	}
	return nil
}

// checkDevice is checkName for a device; empty is none, and good.
func checkDevice(device string) error {
	if device == "" {
		return nil
	}
	return checkName("device", device)
}

func damaged(text string) bool { return strings.ContainsRune(text, utf8.RuneError) }

// checkUser refuses what can be nobody's name.
func checkUser(user string) error {
	if err := checkName("user", user); err != nil {
		return problemf(http.StatusBadRequest, "%s: name a user as your backend does, %d bytes at most when encoded", err, streams.MaxToken)
	}
	return nil
}

func checkTopic(topic string) error {
	if err := checkName("topic", topic); err != nil {
		return problemf(http.StatusBadRequest, "%s: %d bytes at most when encoded", err, streams.MaxToken)
	}
	return nil
}

// encodable makes a bad reply of one that names a user or topic for whom there can be no subject: that is the backend's mistake, and not
// the client's.
type encodable struct{ auth.Authenticator }

func (a encodable) Authenticate(ctx context.Context, question auth.Request) (auth.Identity, error) {
	identity, err := a.Authenticator.Authenticate(ctx, question)
	if err != nil {
		return identity, err
	}
	if _, err := streams.EncodeToken(identity.User); err != nil {
		return auth.Identity{}, fmt.Errorf("%w: user_id: %w", auth.ErrBadReply, err)
	}
	for i, topic := range identity.Topics {
		if _, err := streams.EncodeToken(topic); err != nil {
			return auth.Identity{}, fmt.Errorf("%w: topic %d: %w", auth.ErrBadReply, i+1, err)
		}
	}
	return identity, nil
}
