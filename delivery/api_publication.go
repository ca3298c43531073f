package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/delivery/wire/strict"
	"github.com/tidings-io/tidings/streams"
)

// maxRecipients of one publication. Who has more publishes to a topic, or several times.
const maxRecipients = 1000

// publication is the body of POST /v1/notifications.
type publication struct {
	users []string
	topic string // in place of users
	n     streams.Notification
}

// decodePublication reads a body strictly: what it does not know, or finds twice, the sender has meant to count for something.
// (Decoding into a struct would also take "TO" for "to".)
func decodePublication(body []byte) (publication, error) {
	fields, err := decodeObject(body)
	if err != nil {
		return publication{}, err
	}
	var p publication
	for _, name := range slices.Sorted(maps.Keys(fields)) { // of several mistakes always the same is told
		value := fields[name]
		switch name {
		case "to":
			p.users, err = decodeUsers(value)
		case "topic":
			if p.topic, err = decodeString(name, value); err == nil {
				err = checkTopic(p.topic)
			}
		case "id":
			if p.n.ID, err = decodeString(name, value); err == nil && p.n.ID == "" {
				err = problemf(http.StatusBadRequest, "id is empty: leave it out, and one is made")
			}
		case "kind":
			p.n.Kind, err = decodeString(name, value)
		case "ttl":
			p.n.TTL, err = decodeTTL(value)
		case "data":
			var line bytes.Buffer
			err = json.Compact(&line, value)
			p.n.Data = line.Bytes()
			if depth := wire.Depth(p.n.Data); depth > wire.MaxDepth {
				err = problemf(http.StatusBadRequest, "data is nested %d levels deep, the limit is %d: send it flatter, or as a string", depth, wire.MaxDepth)
			}
		default:
			err = problemf(http.StatusBadRequest, "unknown field %.40q: there are to, topic, id, kind, data and ttl", name)
		}
		if err != nil {
			return publication{}, err
		}
	}
	_, to := fields["to"]
	_, topic := fields["topic"]
	if to == topic {
		return publication{}, problemf(http.StatusBadRequest, `say either "to", a user or a list of users, or "topic"`)
	}
	return p, nil
}

// decodeObject reads one JSON object, whose fields differ, and nothing else.
func decodeObject(body []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(body) { // encoding/json would put U+FFFD in its place
		return nil, problemf(http.StatusBadRequest, "the body is not valid UTF-8")
	}
	fields, err := strict.Object(body)
	if err == nil {
		return fields, nil
	}
	if name := (*strict.NameError)(nil); errors.As(err, &name) {
		return nil, problemf(http.StatusBadRequest, "field %.40q is there twice", name.Name)
	}
	var first json.RawMessage
	switch broken := json.NewDecoder(bytes.NewReader(body)).Decode(&first); {
	case errors.Is(broken, io.EOF), errors.Is(broken, io.ErrUnexpectedEOF):
		return nil, problemf(http.StatusBadRequest, "the body ends within the JSON object that it should be")
	case broken != nil:
		return nil, problemf(http.StatusBadRequest, "the body is broken JSON: %s", broken)
	case first[0] == '{':
		return nil, problemf(http.StatusBadRequest, "something follows the JSON object in the body: send one for each request")
	}
	return nil, problemf(http.StatusBadRequest, `the body must be one JSON object, such as {"to":"alice","data":{"order":991}}`)
}

func decodeString(name string, value json.RawMessage) (s string, err error) {
	if value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", problemf(http.StatusBadRequest, "%s must be a string", name)
	}
	if damaged(s) {
		return "", problemf(http.StatusBadRequest, "%s %.40q: its encoding is broken, it contains U+FFFD", name, s)
	}
	return s, nil
}

func decodeUsers(value json.RawMessage) (users []string, err error) {
	list := []json.RawMessage{value}
	if value[0] == '[' {
		if err := json.Unmarshal(value, &list); err != nil {
			return nil, problemf(http.StatusBadRequest, "to: %s", err)
		}
	}
	if len(list) == 0 || len(list) > maxRecipients {
		return nil, problemf(http.StatusBadRequest, "to lists %d users: 1 to %d are possible; for more use a topic, or several requests",
			len(list), maxRecipients)
	}
	for _, one := range list {
		user, err := decodeString("to, or each of its users,", one)
		if err != nil {
			return nil, err
		}
		if err := checkUser(user); err != nil {
			return nil, err
		}
		users = append(users, user)
	}
	return users, nil
}

func decodeTTL(value json.RawMessage) (time.Duration, error) {
	text, err := decodeString("ttl", value)
	if err != nil {
		return 0, err
	}
	ttl, err := streams.ParseDuration(text)
	if err != nil || ttl < time.Second {
		return 0, problemf(http.StatusBadRequest, `ttl %.40q: give a duration of at least 1s, such as "30s", "90m", "24h" or "30d"`, text)
	}
	return ttl, nil
}
