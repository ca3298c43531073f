// Package strict decodes JSON objects and rejects those with ambiguous field names. encoding/json
// uses the last of two fields with the same name, and accepts "User" for "user", so that two
// readers can understand the same object differently. An object that decides who is admitted must
// not allow that.
package strict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// NameError is the error for an object that has a field twice, or a known field in other capital
// letters.
type NameError struct {
	Name  string // as in the object; it may be a secret
	Known string // the known name that equals Name if case is ignored; empty: none
	Twice bool   // the field occurs twice
}

// Error quotes the known name, if there is one, and nothing else of the object.
func (e *NameError) Error() string {
	switch {
	case e.Twice && e.Known == "":
		return "a field occurs twice"
	case e.Twice:
		return fmt.Sprintf("field %q occurs twice", e.Known)
	}
	return fmt.Sprintf("field %q has other capital letters", e.Known)
}

// Object returns the fields of a JSON object. Names that are not in known are allowed. The error is
// one of encoding/json or a *NameError.
func Object(data []byte, known ...string) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	if fields == nil { // null
		return nil, &json.UnmarshalTypeError{Value: "null"}
	}
	return fields, Names(data, known...)
}

// Names checks the field names of a JSON object, which must be valid JSON. The error is a
// *NameError or nil. It does not check nested objects.
func Names(object []byte, known ...string) error {
	var few [16]string
	names := few[:0]
	var many map[string]bool  // replaces names once few is full
	depth, isName := 0, false // isName: the next string is a field name
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
			isName = depth == 1
		case '}', ']':
			depth--
		case ',':
			isName = depth == 1
		case '"':
			end := i + 1
			for object[end] != '"' {
				if object[end] == '\\' {
					end++
				}
				end++
			}
			text := object[i : end+1]
			i = end
			if !isName {
				continue
			}
			isName = false
			name := unquote(text)
			twice := many[name]
			for _, before := range names {
				twice = twice || before == name
			}
			if err := check(name, twice, known); err != nil {
				return err
			}
			if names = append(names, name); len(names) > len(few) && many == nil {
				many = map[string]bool{}
			}
			if many != nil {
				for _, before := range names {
					many[before] = true
				}
				names = names[:0]
			}
		}
	}
	return nil
}

func unquote(text []byte) (name string) {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1])
	}
	_ = json.Unmarshal(text, &name) // never fails: text is valid
	return name
}

func check(name string, twice bool, known []string) error {
	for _, k := range known {
		if name == k && !twice {
			return nil
		}
		if strings.EqualFold(name, k) { // encoding/json compares like this
			return &NameError{Name: name, Known: k, Twice: name == k}
		}
	}
	if twice {
		return &NameError{Name: name, Twice: true}
	}
	return nil
}
