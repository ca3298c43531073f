package delivery_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams"
)

// Whatever the body, it is either refused as the sender's mistake, or names recipients who can be reached and data that clients can
// read. Seeds are in testdata/fuzz.
func FuzzPublication(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		users, topic, data, err := delivery.DecodePublication(body)
		if err != nil {
			if status := delivery.StatusOf(err); status != 400 {
				t.Errorf("%d: %v", status, err)
			}
			return
		}
		if (topic == "") == (len(users) == 0) || len(users) > 1000 {
			t.Errorf("topic %q and %d users", topic, len(users))
		}
		names := users
		if topic != "" {
			names = []string{topic}
		}
		for _, name := range names {
			token, err := streams.EncodeToken(name)
			if err != nil {
				t.Errorf("%q: %v", name, err)
			}
			if back, err := streams.DecodeToken(token); back != name || err != nil {
				t.Errorf("%q became %q: %v", name, back, err)
			}
		}
		if len(data) > 0 && (!json.Valid(data) || !utf8.Valid(data)) {
			t.Errorf("data %q", data)
		}
		var loose map[string]any // what is taken is JSON to everybody
		if err := json.Unmarshal(body, &loose); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	})
}

// Whatever the body, it is either refused as the sender's mistake, or says one position in plain digits. Seeds are in testdata/fuzz.
func FuzzAcknowledgement(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		epoch, seq, device, err := delivery.DecodeAcknowledgement(body)
		if err != nil {
			if status := delivery.StatusOf(err); status != 400 {
				t.Errorf("%d: %v", status, err)
			}
			return
		}
		if epoch == "" || !utf8.ValidString(epoch) || !utf8.ValidString(device) {
			t.Errorf("epoch %q, device %q", epoch, device)
		}
		var loose map[string]json.RawMessage
		if err := json.Unmarshal(body, &loose); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if said := string(loose["seq"]); said != strconv.FormatUint(seq, 10) {
			t.Errorf("seq %s is read as %d", said, seq)
		}
	})
}
