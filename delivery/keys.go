package delivery

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Keys are the API keys that are good, several at once so that they can be rotated. Only their hashes are kept. The zero value
// is none.
type Keys struct {
	sums [][sha256.Size]byte
}

// minKey is the least length of a key, in bytes: what is shorter can be guessed.
const minKey = 16

var errBadKey = fmt.Errorf("an API key is %d characters at least, without spaces (make one: openssl rand -hex 32)", minKey)

// Add makes one more key good.
func (k *Keys) Add(key string) error {
	if len(key) < minKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errBadKey
	}
	*k = k.with(key)
	return nil
}

func (k Keys) with(key string) Keys {
	return Keys{sums: append(slices.Clip(k.sums), sha256.Sum256([]byte(key)))}
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
	g.keys.Store(&keys)
}

// Len is how many keys are good.
func (k Keys) Len() int { return len(k.sums) }

// good takes as long for any key, so that nobody learns how much of one is right.
func (k Keys) good(key string) bool {
	sum, found := sha256.Sum256([]byte(key)), 0
	for i := range k.sums {
		found |= subtle.ConstantTimeCompare(sum[:], k.sums[i][:])
	}
	return found == 1
}
