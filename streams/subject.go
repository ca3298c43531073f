package streams

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrBadName is wrapped where the name of a user, topic or device cannot be used.
var ErrBadName = errors.New("unusable name")

// Subjects of the stream. A user or topic follows, encoded by EncodeToken.
const (
	UserPrefix  = "notify.user."
	TopicPrefix = "notify.topic."
)

// MaxToken is the longest encoded token, in bytes. A longer name is refused.
const MaxToken = 200

// What the names of durables begin with.
const (
	namePrefix   = "user-"
	hashedPrefix = namePrefix + "h-"
)

const upperHex = "0123456789ABCDEF"

// EncodeToken makes one subject token of any name: bytes outside A-Z a-z 0-9 - _ become %XX, as in URL encoding, plus the
// dot. No two names have the same token. The error wraps ErrBadName where the name is empty, is not UTF-8 or is longer than
// MaxToken bytes when encoded.
func EncodeToken(name string) (string, error) {
	token := escape(name, plain)
	switch {
	case name == "":
		return "", fmt.Errorf("%w: empty", ErrBadName)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("%w: not valid UTF-8", ErrBadName)
	case len(token) > MaxToken:
		return "", fmt.Errorf("%w: %d bytes when encoded, the limit is %d", ErrBadName, len(token), MaxToken)
	}
	return token, nil
}

// DecodeToken reverses EncodeToken. Anything that EncodeToken cannot have made is an error that wraps ErrBadName.
func DecodeToken(token string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] != '%' {
			b.WriteByte(token[i])
			continue
		}
		if i+2 >= len(token) {
			return "", fmt.Errorf("%w: %q ends within an escape", ErrBadName, token)
		}
		hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%w: bad escape in %q", ErrBadName, token)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	if again, err := EncodeToken(b.String()); err != nil || again != token {
		return "", fmt.Errorf("%w: %q is not an encoded name", ErrBadName, token)
	}
	return b.String(), nil
}

// canonical says whether somebody can be subscribed to the subject: it ends in a token that EncodeToken makes.
func canonical(subject string) bool {
	token := subject[strings.LastIndexByte(subject, '.')+1:]
	for i := range len(token) {
		if !plain(token[i]) {
			_, err := DecodeToken(token)
			return err == nil
		}
	}
	return len(token) <= MaxToken
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// UserSubject is the subject of a user's own notifications.
func UserSubject(user string) (string, error) {
	token, err := EncodeToken(user)
	if err != nil {
		return "", fmt.Errorf("user %.40q: %w", user, err)
	}
	return UserPrefix + token, nil
}

// TopicSubject is the subject of a topic, stored once and read by every user whose identity lists it.
func TopicSubject(topic string) (string, error) {
	token, err := EncodeToken(topic)
	if err != nil {
		return "", fmt.Errorf("topic %.40q: %w", topic, err)
	}
	return TopicPrefix + token, nil
}

// CursorID names a cursor: a user's own, or that of one of the user's devices.
type CursorID struct {
	User   string
	Device string // empty: the user's own
}

// String returns the cursor as user or user@device.
func (id CursorID) String() string {
	if id.Device == "" {
		return id.User
	}
	return id.User + "@" + id.Device
}

// ConsumerName is the name of the cursor's durable consumer: user-<user> or user-<user>@<device>, encoded as subjects are
// and upper-case letters too, since the server makes a directory of it and some disks fold case. Names past 200 bytes, and
// the few that would look like one, become user-h- and the base32 (RFC 4648, no padding) of the SHA-256 of the user's token,
// NUL and the device's: of the names themselves it would not be injective, since they may hold NUL.
func ConsumerName(id CursorID) (string, error) {
	user, err := EncodeToken(id.User)
	if err != nil {
		return "", fmt.Errorf("user: %w", err)
	}
	name, device := namePrefix+foldSafe(id.User), ""
	if id.Device != "" {
		if device, err = EncodeToken(id.Device); err != nil {
			return "", fmt.Errorf("device: %w", err)
		}
		name += "@" + foldSafe(id.Device)
	}
	if len(name) > 200 || strings.HasPrefix(name, hashedPrefix) {
		sum := sha256.Sum256([]byte(user + "\x00" + device))
		name = hashedPrefix + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
	}
	return name, nil
}

func foldSafe(name string) string {
	return escape(name, func(c byte) bool { return plain(c) && (c < 'A' || c > 'Z') })
}

func escape(name string, plain func(c byte) bool) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}
