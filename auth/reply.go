package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tidings-io/tidings/delivery/wire/strict"
)

// reply is the JSON that a Responder sends. Times are in seconds.
type reply struct {
	Success    bool     `json:"success"`
	UserID     string   `json:"user_id,omitempty"`
	Topics     []string `json:"topics,omitempty"`
	ExpiresIn  float64  `json:"expires_in,omitempty"`
	Error      string   `json:"error,omitempty"`
	Message    string   `json:"message,omitempty"`
	RetryAfter float64  `json:"retry_after,omitempty"`
}

func encodeIdentity(id Identity) ([]byte, error) {
	return json.Marshal(reply{Success: true, UserID: id.User, Topics: id.Topics, ExpiresIn: id.ExpiresIn.Seconds()})
}

func encodeRefusal(r *Refusal) ([]byte, error) {
	return json.Marshal(reply{Error: refusalCode(r.Code), Message: clip(r.Message, maxMessage),
		RetryAfter: min(max(r.RetryAfter, 0), maxRetry).Seconds()})
}

// parseReply parses the reply of a responder. If it fails, the error is a *Refusal or ErrBadReply,
// and the Identity is empty.
//
// A field that occurs twice, or has other capital letters, makes the reply a bad one, because its
// meaning is ambiguous. Where a refusal quotes the token, the token is removed: refusals are
// logged.
func parseReply(token string, data []byte) (Identity, error) {
	if len(data) == 0 {
		return Identity{}, fmt.Errorf("%w: empty", ErrBadReply)
	}
	if !utf8.Valid(data) { // encoding/json would replace it by U+FFFD
		return Identity{}, fmt.Errorf("%w: not valid UTF-8", ErrBadReply)
	}
	fields, err := strict.Object(data, "success", "user_id", "topics", "expires_in", "error", "message", "retry_after")
	var name *strict.NameError
	switch {
	case errors.As(err, &name):
		return Identity{}, fmt.Errorf("%w: %w", ErrBadReply, name)
	case err != nil:
		return Identity{}, fmt.Errorf("%w: not a JSON object", ErrBadReply)
	}
	switch string(fields["success"]) {
	case "true":
		return parseIdentity(fields)
	case "false":
		return Identity{}, parseRefusal(token, fields)
	default:
		return Identity{}, fmt.Errorf("%w: success is neither true nor false", ErrBadReply)
	}
}

func parseIdentity(fields map[string]json.RawMessage) (Identity, error) {
	user, err := parseUser(fields["user_id"])
	if err != nil {
		return Identity{}, fmt.Errorf("%w: user_id %w", ErrBadReply, err)
	}
	topics, err := parseTopics(fields["topics"])
	if err != nil {
		return Identity{}, fmt.Errorf("%w: topics: %w", ErrBadReply, err)
	}
	expires, limited, err := parseSeconds(fields["expires_in"], maxExpiry)
	switch {
	case err != nil:
		return Identity{}, fmt.Errorf("%w: expires_in %w", ErrBadReply, err)
	case limited && expires == 0:
		return Identity{}, expired()
	}
	return Identity{User: user, Topics: topics, ExpiresIn: expires}.checked()
}

// parseRefusal returns the refusal. It stays a refusal if its other fields are not valid.
func parseRefusal(token string, fields map[string]json.RawMessage) *Refusal {
	text := func(name string) (s string) {
		if json.Unmarshal(fields[name], &s) != nil {
			return ""
		}
		return s
	}
	code := text("error")
	if code != CodeTokenExpired && code != CodeForbidden { // these have a meaning, even if the token is the same word
		code = redact(token, code)
	}
	retry, _, err := parseSeconds(fields["retry_after"], maxRetry)
	if err != nil {
		retry = 0
	}
	return &Refusal{Code: refusalCode(code), Message: clip(redact(token, text("message")), maxMessage), RetryAfter: retry}
}

func refusalCode(s string) string {
	if s == "" {
		return "refused"
	}
	return clip(s, maxCode)
}

// parseUser parses a string, or an integer from 0 to 2^53 in plain digits. Larger integers are not
// exact in JavaScript, and one user could become another.
func parseUser(raw json.RawMessage) (string, error) {
	switch {
	case absent(raw):
		return "", errors.New("is missing")
	case raw[0] == '"':
		var user string
		if err := json.Unmarshal(raw, &user); err != nil {
			return "", errors.New("is not a string")
		}
		return user, nil
	case raw[0] >= '0' && raw[0] <= '9':
		n, err := strconv.ParseUint(string(raw), 10, 64)
		if err != nil || n > 1<<53 {
			return "", errors.New("is not an integer up to 2^53 in plain digits")
		}
		return strconv.FormatUint(n, 10), nil
	default:
		return "", errors.New("is neither a string nor an integer from 0")
	}
}

func parseTopics(raw json.RawMessage) ([]string, error) {
	if absent(raw) {
		return nil, nil
	}
	var topics []string
	if err := json.Unmarshal(raw, &topics); err != nil {
		return nil, errors.New("not an array of strings")
	}
	return topics, nil
}

// parseSeconds parses a number of seconds; ok is false if there is none. Zero and negative numbers
// give 0. A positive number gives at least 1 ms, because 0 has another meaning, and at most limit.
func parseSeconds(raw json.RawMessage, limit time.Duration) (d time.Duration, ok bool, err error) {
	if absent(raw) {
		return 0, false, nil
	}
	// An exponent beyond float64 gives infinity and ErrRange; treat it as any other very large number.
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false, errors.New("is not a number of seconds")
	}
	switch {
	case f <= 0:
		return 0, true, nil
	case f >= limit.Seconds():
		return limit, true, nil
	default:
		return max(time.Duration(f*float64(time.Second)), time.Millisecond), true, nil
	}
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }
