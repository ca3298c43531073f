package delivery

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tidings-io/tidings/auth"
)

// Keys are the API keys that are good, several at once so that they can be rotated. Only their hashes are kept. The zero value
// is none.
type Keys struct {
	sums    [][sha256.Size]byte
	revoked [][sha256.Size]byte // were good before, at this gateway
	plain   int                 // how many of sums do not begin with KeyPrefix
}

// KeyPrefix is how generated API keys begin. A client's token that contains "tidings_key" anywhere,
// in any case, is refused as an API key and not sent to the backend, even if the key is mistyped or
// was revoked before the gateway started. A key without the prefix is recognized only if it is or
// was valid at this gateway.
const KeyPrefix = "tidings_key_"

var errKeyAsToken = &auth.Refusal{Code: "api_key", Message: "this looks like an API key: clients send the token of their user"}

// minKey is the least length of a key, in bytes: what is shorter can be guessed.
const minKey = 16

var errBadKey = fmt.Errorf("an API key is %d characters at least, without spaces (make one: echo %s$(openssl rand -hex 32))", minKey, KeyPrefix)

// Add makes one more key good.
func (k *Keys) Add(key string) error {
	if len(key) < minKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errBadKey
	}
	*k = k.with(key)
	return nil
}

func (k Keys) with(key string) Keys {
	k.sums = append(slices.Clip(k.sums), sha256.Sum256([]byte(key)))
	if !strings.HasPrefix(key, KeyPrefix) {
		k.plain++
	}
	return k
}

// Read adds the keys of a file: one a line, which a space, a # and a comment may follow. Errors name the line, never what it says.
func (k *Keys) Read(file io.Reader) error {
	before := len(k.sums)
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		err := errBadKey
		if len(words) == 1 || words[1][0] == '#' {
			err = k.Add(words[0])
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(k.sums) == before {
		return errors.New("there is no key in it")
	}
	return nil
}

// SetKeys makes these, beside that of the demo, the keys that are good from now on.
func (g *Gateway) SetKeys(keys Keys) {
	if g.cfg.DemoKey != "" {
		keys = keys.with(g.cfg.DemoKey)
	}
	if before := g.keys.Load(); before != nil {
		keys.revoked = slices.Concat(before.revoked, before.sums)
		slices.SortFunc(keys.revoked, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
		keys.revoked = slices.Compact(keys.revoked)
	}
	g.keys.Store(&keys)
}

// Len is how many keys are good.
func (k Keys) Len() int { return len(k.sums) }

// Plain is how many keys do not begin with KeyPrefix.
func (k Keys) Plain() int { return k.plain }

func (k Keys) good(key string) bool { return among(k.sums, key) }

// resembles reports whether a token contains "tidings_key" in any case, or is an API key that is or
// was valid at this gateway. The gateway does not send such a token to the backend.
func (k Keys) resembles(token string) bool {
	return strings.Contains(strings.ToLower(token), strings.TrimSuffix(KeyPrefix, "_")) || k.good(token) || among(k.revoked, token)
}

// among takes as long for any key, so that nobody learns how much of one is right.
func among(sums [][sha256.Size]byte, key string) bool {
	sum, found := sha256.Sum256([]byte(key)), 0
	for i := range sums {
		found |= subtle.ConstantTimeCompare(sum[:], sums[i][:])
	}
	return found == 1
}
