package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"unicode/utf8"

	"github.com/tidings-io/tidings/delivery/wire/strict"
)

// Table is an [Authenticator] with a fixed set of tokens: for demos, tests and small installations.
// It stores only hashes of the tokens, and does not change after it was created.
type Table struct {
	identities map[[sha256.Size]byte]Identity
}

// Len returns the number of tokens.
func (t *Table) Len() int { return len(t.identities) }

// String returns the number of tokens, and none of them.
func (t *Table) String() string { return fmt.Sprintf("auth.Table of %d tokens", t.Len()) }

// Authenticate looks the token up. An unknown token is a *[Refusal] with code token_unknown. It
// compares hashes, so its timing reveals nothing about tokens that are nearly right.
func (t *Table) Authenticate(_ context.Context, req Request) (Identity, error) {
	id, ok := t.identities[sha256.Sum256([]byte(req.Token))]
	if !ok {
		return Identity{}, &Refusal{Code: "token_unknown", Message: "unknown token"}
	}
	id.Topics = slices.Clone(id.Topics)
	return id, nil
}

const tableExample = `{"token-1":{"user":"42","topics":["releases"],"expires_in":3600}}`

// LoadTable reads a Table from a JSON file; see [ParseTable].
func LoadTable(path string) (*Table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: token table: %w (create one such as %s)", err, tableExample)
	}
	defer file.Close()
	table, err := ParseTable(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return table, nil
}

// ParseTable reads a Table from JSON such as
//
//	{"token-1": {"user": "42", "topics": ["releases"], "expires_in": 3600}}
//
// user is a string or an integer up to 2^53. topics and expires_in are optional. expires_in is in
// seconds from each authentication, and may be a fraction; without it the identity does not expire.
// Errors give the position and never quote a token.
func ParseTable(r io.Reader) (*Table, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("auth: token table: %w", err)
	}
	// The errors of the decoder quote the input, which may be part of a token.
	var whole map[string]json.RawMessage
	if !utf8.Valid(data) {
		return nil, errors.New("auth: token table: not valid UTF-8 (save it as UTF-8)")
	}
	if err := json.Unmarshal(data, &whole); err != nil || whole == nil {
		line := 1
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			line = lineAt(data, syntax.Offset)
		}
		return nil, fmt.Errorf("auth: token table: line %d: not a JSON object (write one such as %s)", line, tableExample)
	}
	table := &Table{identities: make(map[[sha256.Size]byte]Identity, len(whole))}
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil { // the opening brace
		return nil, fmt.Errorf("auth: token table: %w", err)
	}
	for n := 1; dec.More(); n++ {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("auth: token table: entry %d: %w", n, err)
		}
		line := lineAt(data, dec.InputOffset())
		var entry json.RawMessage
		if err := dec.Decode(&entry); err != nil {
			return nil, fmt.Errorf("auth: token table: entry %d (line %d): %w", n, line, err)
		}
		if err := table.add(token.(string), entry); err != nil {
			return nil, fmt.Errorf("auth: token table: entry %d (line %d): %w", n, line, err)
		}
	}
	return table, nil
}

func (t *Table) add(token string, entry json.RawMessage) error {
	key := sha256.Sum256([]byte(token))
	if token == "" {
		return errors.New("the token is empty (give it one that is hard to guess)")
	}
	if _, ok := t.identities[key]; ok {
		return errors.New("the token occurs twice (remove one of the two)")
	}
	id, err := parseEntry(entry)
	if err != nil {
		return err
	}
	t.identities[key] = id
	return nil
}

// parseEntry parses one entry. Its errors do not name an unknown field: in a table that is nested
// one level too deep it is a token.
func parseEntry(entry json.RawMessage) (Identity, error) {
	fields, err := strict.Object(entry)
	if errors.As(err, new(*strict.NameError)) {
		return Identity{}, errors.New("has a field twice (remove one of the two)")
	}
	if err != nil {
		return Identity{}, errors.New(`is not an object (write {"user":"42"})`)
	}
	for name := range fields {
		if name != "user" && name != "topics" && name != "expires_in" {
			return Identity{}, errors.New("has a field other than user, topics and expires_in (remove or rename it)")
		}
	}
	user, err := parseUser(fields["user"])
	if err == nil {
		err = checkName(user)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("user %w (name the user that the token belongs to)", err)
	}
	topics, err := parseTopics(fields["topics"])
	if err == nil {
		err = checkTopics(topics)
	}
	if err != nil {
		return Identity{}, fmt.Errorf(`topics: %w (write ["releases"], or omit it)`, err)
	}
	expires, limited, err := parseSeconds(fields["expires_in"], maxExpiry)
	if err == nil && limited && expires == 0 {
		err = errors.New("is not positive")
	}
	if err != nil {
		return Identity{}, fmt.Errorf("expires_in %w (write seconds, or omit it for no expiry)", err)
	}
	return Identity{User: user, Topics: unique(topics), ExpiresIn: expires}, nil
}

// lineAt returns the number of the line, from 1, that contains the byte before offset.
func lineAt(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:max(offset-1, 0)], []byte("\n"))
}

// TokenIsUser returns an Authenticator for development only: the token is the user's name, and
// every user may read the topics. A token that is not a valid name (see [Identity]) is a *[Refusal]
// with code token_invalid. An invalid topic makes every result ErrBadReply.
func TokenIsUser(topics ...string) Authenticator {
	topics = slices.Clone(topics)
	return AuthenticatorFunc(func(_ context.Context, req Request) (Identity, error) {
		if err := checkName(req.Token); err != nil {
			return Identity{}, &Refusal{Code: "token_invalid", Message: "the token must be a user's name, but it " + err.Error()}
		}
		return Identity{User: req.Token, Topics: topics}, nil
	})
}
