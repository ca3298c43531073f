package auth_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/auth"
)

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	text := `{
		"token-1": {"user": "42", "topics": ["releases", "releases"], "expires_in": 3600},
		"token-2": {"user": 7, "expires_in": 0.5},
		"token-3": {"user": "eve", "topics": null, "expires_in": null}
	}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := auth.LoadTable(path)
	if err != nil {
		t.Fatal(err)
	}
	if table.Len() != 3 || strings.Contains(fmt.Sprintf("%v %+v %#v", table, table, table), "token-1") {
		t.Errorf("%d tokens: %+v", table.Len(), table)
	}
	for token, want := range map[string]auth.Identity{
		"token-1": {User: "42", Topics: []string{"releases"}, ExpiresIn: time.Hour},
		"token-2": {User: "7", ExpiresIn: 500 * time.Millisecond},
		"token-3": {User: "eve"},
	} {
		for range 2 { // expires_in counts from each authentication
			got, err := table.Authenticate(context.Background(), auth.Request{Token: token})
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, %v, want %+v", token, got, err, want)
			}
		}
	}
	id, _ := table.Authenticate(context.Background(), auth.Request{Token: "token-1"})
	id.Topics[0] = "mine"
	if id, _ = table.Authenticate(context.Background(), auth.Request{Token: "token-1"}); id.Topics[0] != "releases" {
		t.Error("a caller modified the table")
	}
	for _, token := range []string{"", "token", "token-11", "TOKEN-1", "token-1\x00"} {
		id, err := table.Authenticate(context.Background(), auth.Request{Token: token})
		wantRefusal(t, id, err, auth.Refusal{Code: "token_unknown", Message: "unknown token"})
	}
}

func TestTableErrorsDoNotQuoteTokens(t *testing.T) {
	for text, want := range map[string]string{
		``:                          "line 1: not a JSON object",
		`null`:                      "line 1: not a JSON object",
		`["sesame"]`:                "line 1: not a JSON object",
		"{\n\"sesame\":\n\n!":       "line 4: not a JSON object",
		`{"sesame":{"user":"a"}} x`: "line 1: not a JSON object",
		"{\"sesame\xff\":{}}":       "not valid UTF-8",
		`{"":{"user":"a"}}`:         "entry 1 (line 1): the token is empty",
		`{"sesame":"alice"}`:        "entry 1 (line 1): is not an object",
		`{"sesame":null}`:           "entry 1 (line 1): is not an object",
		"{\"a\":{\"user\":\"a\"},\n\n\"sesame\":{\"user\":\"\"}}": "entry 2 (line 3): user is empty (name the user",
		`{"sesame":{}}`:                                    "user is missing (name the user",
		`{"sesame":{"user":1.5}}`:                          "user is not an integer",
		`{"sesame":{"user":true}}`:                         "user is neither",
		`{"users":{"sesame":{"user":"a"}}}`:                "entry 1 (line 1): has a field other than user, topics and expires_in",
		`{"sesame":{"User":"a"}}`:                          "has a field other than",
		`{"sesame":{"user":"a","topics":"x"}}`:             "topics: not an array of strings",
		`{"sesame":{"user":"a","topics":["x",""]}}`:        "topics: topic 2 is empty",
		`{"sesame":{"user":"a","expires_in":0}}`:           "expires_in is not positive (write seconds, or omit it",
		`{"sesame":{"user":"a","expires_in":-1}}`:          "expires_in is not positive",
		`{"sesame":{"user":"a","expires_in":"1h"}}`:        "expires_in is not a number of seconds",
		`{"sesame":{"user":"a","user":"root"}}`:            "entry 1 (line 1): has a field twice",
		`{"sesame":{"user":"a"},"sesame":{"user":"root"}}`: "entry 2 (line 1): the token occurs twice",
	} {
		table, err := auth.ParseTable(strings.NewReader(text))
		if table != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: the error contains the token: %v", text, err)
		}
	}
	if table, err := auth.ParseTable(strings.NewReader("{}")); err != nil || table.Len() != 0 {
		t.Errorf("an empty table: %v, %v", table, err)
	}
}

func TestLoadTableErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	if _, err := auth.LoadTable(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.LoadTable(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("bad file: %v", err)
	}
}

func TestTokenIsUser(t *testing.T) {
	a := auth.TokenIsUser("all", "news")
	want := auth.Identity{User: "alice@x.com", Topics: []string{"all", "news"}}
	for range 2 {
		got, err := a.Authenticate(context.Background(), auth.Request{Token: "alice@x.com"})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v", got, err)
		}
		got.Topics[0] = "mine"
	}
	for _, token := range []string{"", "\xff", "\ufffd", strings.Repeat("x", 201)} {
		id, err := a.Authenticate(context.Background(), auth.Request{Token: token})
		var refusal *auth.Refusal
		if !errors.As(err, &refusal) || refusal.Code != "token_invalid" {
			t.Errorf("%.10q: %v", token, err)
		}
		wantNobody(t, id)
	}
}
