// Package strict reads JSON objects whose names are unambiguous. encoding/json takes the last of two fields of one name, and "User" for
// "user", so that two readers can understand one object in two ways. An object that admits a user must not allow that.
package strict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// A NameError is the error for an object in which a name is there twice, or is one of those known but for the case of its letters.
type NameError struct {
	Name  string // as it stands there, perhaps a secret
	Known string // the known name that it is, or nearly is; empty: none
	Twice bool
}

// Error names the known name, if there is one, and quotes nothing else.
func (e *NameError) Error() string {
	switch {
	case e.Twice && e.Known == "":
		return "a field is there twice"
	case e.Twice:
		return fmt.Sprintf("field %q is there twice", e.Known)
	}
	return fmt.Sprintf("field %q is written with other capital letters", e.Known)
}

// Object returns the fields of a JSON object. Names that are not known are allowed. The error is one of encoding/json, or a *NameError.
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

// Names checks the names of a JSON object, which must be valid: the error is a *NameError or nil. It does not look at objects within.
func Names(object []byte, known ...string) error {
	var few [16]string
	names := few[:0]
	var many map[string]bool // in place of names, if there are more
	depth, name := 0, false  // name: the next string is one
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
			name = depth == 1
		case '}', ']':
			depth--
		case ',':
			name = depth == 1
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
			if !name {
				continue
			}
			name = false
			one := unquote(text)
			twice := many[one]
			for _, before := range names {
				twice = twice || before == one
			}
			if err := check(one, twice, known); err != nil {
				return err
			}
			if names = append(names, one); len(names) > len(few) && many == nil {
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
	_ = json.Unmarshal(text, &name) // it is valid
	return name
}

func check(name string, twice bool, known []string) error {
	for _, k := range known {
		if name == k && !twice {
			return nil
		}
		if strings.EqualFold(name, k) { // as encoding/json compares
			return &NameError{Name: name, Known: k, Twice: name == k}
		}
	}
	if twice {
		return &NameError{Name: name, Twice: true}
	}
	return nil
}
