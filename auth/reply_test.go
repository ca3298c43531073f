package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
)

func TestReply(t *testing.T) {
	year := 365 * 24 * time.Hour
	for body, want := range map[string]auth.Identity{
		`{"success":true,"user_id":"42","topics":["releases"],"expires_in":3600}`: {
			User: "42", Topics: []string{"releases"}, ExpiresIn: time.Hour},
		" {\n\"success\" : true , \"user_id\" : 42 } \n":                            {User: "42"},
		`{"success":true,"user_id":0}`:                                              {User: "0"},
		`{"success":true,"user_id":9007199254740992}`:                               {User: "9007199254740992"},
		`{"success":true,"user_id":"ä@x.com","extra":{"a":[1]},"error":7}`:          {User: "ä@x.com"},
		`{"success":true,"user_id":"\ud83d\ude00"}`:                                 {User: "😀"},
		`{"success":true,"user_id":"a","topics":null,"expires_in":null}`:            {User: "a"},
		`{"success":true,"user_id":"a","topics":[]}`:                                {User: "a"},
		`{"success":true,"user_id":"a","topics":["x","y","x"]}`:                     {User: "a", Topics: []string{"x", "y"}},
		`{"success":true,"user_id":"a","expires_in":1.5}`:                           {User: "a", ExpiresIn: 1500 * time.Millisecond},
		`{"success":true,"user_id":"a","expires_in":1e-9}`:                          {User: "a", ExpiresIn: time.Millisecond},
		`{"success":true,"user_id":"a","expires_in":1e300}`:                         {User: "a", ExpiresIn: 100 * year},
		`{"success":true,"user_id":"a","expires_in":1e999}`:                         {User: "a", ExpiresIn: 100 * year},
		`{"success":true,"user_id":"a","expires_in":99999999999999999999999999999}`: {User: "a", ExpiresIn: 100 * year},
	} {
		if got, err := auth.ParseReply([]byte(body)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", body, got, err, want)
		}
	}
}

// badReplies must not admit anybody.
var badReplies = []string{
	"", " ", "\n", "null", "true", "42", `"yes"`, "[]", "{}", "OK", "\x00", "\xff\xfe", "{", `{"success":true`,
	`{"success":true}`,
	`{"success":"true","user_id":"42"}`,
	`{"success":1,"user_id":"42"}`,
	`{"success":null,"user_id":"42"}`,
	`{"success":[true],"user_id":"42"}`,
	`{"SUCCESS":true,"user_id":"42"}`,
	`{"success":true,"USER_ID":"42"}`,
	`{"success":true,"user_id":"42","User_ID":"43"}`,
	`{"success":true,"user_id":"42","user_id":"43"}`,
	`{"success":true,"user_id":"42","user\u005fid":"43"}`,
	`{"success":true,"user_id":"42","success":true}`,
	`{"success":false,"user_id":"42","success":true}`,
	`{"success":true,"user_id":"42","Expires_In":60}`,
	`{"success":true,"user_id":"42","TOPICS":["a"]}`,
	`{"success":true,"user_id":"42","x":1,"x":1}`,
	`{"user_id":"42"}`,
	`[{"success":true,"user_id":"42"}]`,
	`{"success":true,"user_id":"42"}{"success":true,"user_id":"42"}`,
	`{"success":true,"user_id":"42"} x`,
	"\ufeff" + `{"success":true,"user_id":"42"}`,
	`{"success":true,"user_id":""}`,
	`{"success":true,"user_id":null}`,
	`{"success":true,"user_id":true}`,
	`{"success":true,"user_id":{}}`,
	`{"success":true,"user_id":["42"]}`,
	`{"success":true,"user_id":1.5}`,
	`{"success":true,"user_id":42.0}`,
	`{"success":true,"user_id":1e3}`,
	`{"success":true,"user_id":-1}`,
	`{"success":true,"user_id":-0}`,
	`{"success":true,"user_id":007}`,
	`{"success":true,"user_id":9007199254740993}`,
	`{"success":true,"user_id":99999999999999999999999}`,
	"{\"success\":true,\"user_id\":\"\xff\"}",
	"{\"success\":true,\"user_id\":\"42\",\"note\":\"\xff\"}",
	`{"success":true,"user_id":"\ud800"}`,
	`{"success":true,"user_id":"` + strings.Repeat("u", 201) + `"}`,
	`{"success":true,"user_id":"42","topics":"releases"}`,
	`{"success":true,"user_id":"42","topics":{}}`,
	`{"success":true,"user_id":"42","topics":[1]}`,
	`{"success":true,"user_id":"42","topics":[null]}`,
	`{"success":true,"user_id":"42","topics":["a",""]}`,
	`{"success":true,"user_id":"42","topics":["a","\ud800"]}`,
	`{"success":true,"user_id":"42","topics":["` + strings.Repeat("t", 201) + `"]}`,
	`{"success":true,"user_id":"42","topics":["a"` + strings.Repeat(`,"a"`, 1000) + `]}`,
	`{"success":true,"user_id":"42","expires_in":"3600"}`,
	`{"success":true,"user_id":"42","expires_in":true}`,
	`{"success":true,"user_id":"42","expires_in":{}}`,
	`{"success":true,"user_id":"42","expires_in":NaN}`,
	`{"success":true,"user_id":"42","x":` + strings.Repeat("[", 20000) + `}`,
}

func TestBadReplyAdmitsNobody(t *testing.T) {
	for _, body := range badReplies {
		id, err := auth.ParseReply([]byte(body))
		if !errors.Is(err, auth.ErrBadReply) {
			t.Errorf("%.80q: got %+v, %v, want ErrBadReply", body, id, err)
		}
		wantNobody(t, id)
	}
}

func TestRefusalReply(t *testing.T) {
	expired := auth.Refusal{Code: "token_expired", Message: "the token has expired"}
	for body, want := range map[string]auth.Refusal{
		`{"success":false}`: {Code: "refused"},
		`{"success":false,"error":"token_expired","message":"…","retry_after":2}`: {
			Code: "token_expired", Message: "…", RetryAfter: 2 * time.Second},
		`{"success":false,"error":"forbidden","user_id":"42"}`:                        {Code: "forbidden"},
		`{"success":false,"error":7,"message":{},"retry_after":"2"}`:                  {Code: "refused"},
		`{"success":false,"error":"x","retry_after":0.25}`:                            {Code: "x", RetryAfter: 250 * time.Millisecond},
		`{"success":false,"error":"x","retry_after":-5}`:                              {Code: "x"},
		`{"success":false,"error":"x","retry_after":null}`:                            {Code: "x"},
		`{"success":false,"error":"x","retry_after":1e99}`:                            {Code: "x", RetryAfter: time.Hour},
		`{"success":false,"error":"` + strings.Repeat("é", 50) + `"}`:                 {Code: strings.Repeat("é", 32)},
		`{"success":false,"error":"x","message":"a` + strings.Repeat("é", 200) + `"}`: {Code: "x", Message: "a" + strings.Repeat("é", 99)},
		`{"success":true,"user_id":"42","expires_in":0}`:                              expired,
		`{"success":true,"user_id":"42","expires_in":-1}`:                             expired,
		`{"success":true,"user_id":"42","expires_in":-1e999}`:                         expired,
	} {
		id, err := auth.ParseReply([]byte(body))
		wantRefusal(t, id, err, want)
	}
}

func FuzzReply(f *testing.F) {
	for _, body := range badReplies {
		if len(body) < 200 { // the fuzzer would spend its time on shortening long ones
			f.Add([]byte(body))
		}
	}
	f.Add([]byte(`{"success":true,"user_id":"42","topics":["releases"],"expires_in":3600}`))
	f.Add([]byte(`{"success":false,"error":"token_expired","message":"…","retry_after":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		id, err := auth.ParseReply(body)
		if err != nil {
			wantNobody(t, id)
			var refusal *auth.Refusal
			if errors.As(err, &refusal) {
				if refusal.Code == "" || refusal.RetryAfter < 0 || !utf8.ValidString(refusal.Message) {
					t.Fatalf("%q: %+v", body, refusal)
				}
			} else if !errors.Is(err, auth.ErrBadReply) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var whole map[string]any
		if json.Unmarshal(body, &whole) != nil || whole["success"] != true {
			t.Fatalf("%q admits %+v", body, id)
		}
		for _, name := range append([]string{id.User}, id.Topics...) {
			if name == "" || len(name) > 200 || !utf8.ValidString(name) {
				t.Fatalf("%q: name %q", body, name)
			}
		}
		// The user is exactly the one in the reply.
		switch user := whole["user_id"].(type) {
		case string:
			if user != id.User {
				t.Fatalf("%q: user %q", body, id.User)
			}
		case float64:
			if fmt.Sprintf("%.0f", user) != id.User {
				t.Fatalf("%q: user %q", body, id.User)
			}
		default:
			t.Fatalf("%q: user %q", body, id.User)
		}
		if id.ExpiresIn < 0 || (whole["expires_in"] == nil) != (id.ExpiresIn == 0) {
			t.Fatalf("%q: expires in %v", body, id.ExpiresIn)
		}
	})
}

// A responder may quote the token in a refusal. The token is removed, because refusals are logged
// and shown.
func TestRefusalDoesNotQuoteTheToken(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]any{
		`{"success":false,"error":"no_token-1","message":"is token-1 yours?"}`: auth.Refusal{Code: "no_[token]", Message: "is [token] yours?"},
		`{"success":false,"message":"` + strings.Repeat("-", 195) + `token-1"}`: auth.Refusal{
			Code: "refused", Message: strings.Repeat("-", 195) + "[toke"}, // redacted before the message is cut
		"": nil,
	} {
		s := startServer(t)
		answerWith(t, connect(t, s), body, nats.Header{"Nats-Service-Error": {"bad token-1"}, "Nats-Service-Error-Code": {"500"}})
		id, err := authenticate(auth.NewRequester(connect(t, s), auth.RequesterConfig{}))
		if strings.Contains(err.Error(), "token-1") {
			t.Error(err)
		}
		if want != nil {
			wantRefusal(t, id, err, want.(auth.Refusal))
		}
	}
}

// A short token that is part of a word stays in the text: what was removed could be guessed from
// the rest of the word.
func TestShortTokensAreRedactedAsWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ token, text, want string }{
		{"expired", "token_expired", "token_[token]"},
		{"e", "the token e is refused", "the token [token] is refused"},
		{"alice", "alice, malice and \"alice\"", "[token], malice and \"[token]\""},
		{"é", "édité é", "édité [token]"},
		{"aa", "aaa aa", "aaa [token]"},
		{"token-12", "xtoken-12x", "x[token]x"},
		{"", "x", "x"},
		{"a", "\xffa\xff", "\xff[token]\xff"},
	} {
		if got := auth.Redact(c.token, c.text); got != c.want {
			t.Errorf("%q of %q: %q, want %q", c.token, c.text, got, c.want)
		}
	}
}
