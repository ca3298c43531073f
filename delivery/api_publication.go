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
	broken := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return problemf(http.StatusBadRequest, "the body ends within the JSON object that it should be")
		}
		return problemf(http.StatusBadRequest, "the body is broken JSON: %s", err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if start, err := dec.Token(); err != nil {
		return nil, broken(err)
	} else if start != json.Delim('{') {
		return nil, problemf(http.StatusBadRequest, `the body must be one JSON object, such as {"to":"alice","data":{"order":991}}`)
	}
	fields := map[string]json.RawMessage{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, broken(err)
		}
		name := key.(string) // a decoder gives nothing else there
		if _, twice := fields[name]; twice {
			return nil, problemf(http.StatusBadRequest, "field %.40q is there twice", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, broken(err)
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, broken(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, problemf(http.StatusBadRequest, "something follows the JSON object in the body: send one for each request")
	}
	return fields, nil
}

func decodeString(name string, value json.RawMessage) (s string, err error) {
	if value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", problemf(http.StatusBadRequest, "%s must be a string", name)
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

func checkTopic(topic string) error {
	if _, err := streams.TopicSubject(topic); err != nil {
		return problemf(http.StatusBadRequest, "%s: %d bytes at most when encoded", err, streams.MaxToken)
	}
	return nil
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
