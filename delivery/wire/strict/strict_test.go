package strict_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidings-io/tidings/delivery/wire/strict"
)

func TestNames(t *testing.T) {
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `"%d":0,`, i)
	}
	for object, want := range map[string]string{
		`{}`: "",
		` { "user_id" : 1 , "x" : {"user_id":2,"user_id":3,"X":[{"X":1}]} , "y" : ["x","x","\"x"], "z\"":"{,\"x\":1" } `: "",
		`{"x":1,"X":2}`:                                  "", // neither is known
		`{` + many.String() + `"1000":0}`:                "",
		`{"user_id":1,"user_id":1}`:                      `field "user_id" occurs twice`,
		`{"user_id":1,"x":{"y":",\\"},"user\u005fid":1}`: `field "user_id" occurs twice`,
		`{"user_id":1,"User_ID":1}`:                      `field "user_id" has other capital letters`,
		`{"uſer_id":1}`:                                  `field "user_id" has other capital letters`,
		`{"secret":1,"y":[],"secret":1}`:                 "a field occurs twice",
		`{` + many.String() + `"7":0}`:                   "a field occurs twice",
		`{` + many.String() + `"999":0}`:                 "a field occurs twice",
		`{` + many.String() + `"uſer_id":0}`:             `field "user_id" has other capital letters`,
		`{"":1,"":2}`:                                    "a field occurs twice",
	} {
		err := strict.Names([]byte(object), "success", "user_id")
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%.80s: %v, want %q", object, err, want)
		}
	}
}

func TestObject(t *testing.T) {
	for _, bad := range []string{"", "null", "[]", `"x"`, "{", `{"a":1}x`, `{"a":1,}`, `{"a":1,"a":2}`} {
		if fields, err := strict.Object([]byte(bad)); err == nil {
			t.Errorf("%s: %v", bad, fields)
		}
	}
	if fields, err := strict.Object([]byte(`{"a":{"b":[1]}}`)); err != nil || string(fields["a"]) != `{"b":[1]}` {
		t.Errorf("%s, %v", fields, err)
	}
}

// If Names accepts an object, the result of encoding/json does not depend on how it treats names.
func FuzzNames(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"a":[1,"\"",{}]},"\u0061\\":"x"}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var plain map[string]json.RawMessage
		if json.Unmarshal(data, &plain) != nil || plain == nil {
			return
		}
		names := 0
		dec := json.NewDecoder(bytes.NewReader(data))
		_, _ = dec.Token()
		for ; dec.More(); names++ {
			var value json.RawMessage
			if _, err := dec.Token(); err != nil {
				t.Fatal(err)
			}
			if err := dec.Decode(&value); err != nil {
				t.Fatal(err)
			}
		}
		err := strict.Names(data)
		if twice := len(plain) != names; errors.As(err, new(*strict.NameError)) != twice {
			t.Fatalf("%q: %v, but %d of %d names are distinct", data, err, len(plain), names)
		}
	})
}
