package delivery

import "strings"

// keptMost is how much of what a client says of itself is kept with its connection, in bytes.
const keptMost = 512

// kept is a header without what would be held beyond that for as long as the connection lasts.
func kept(header string) string { return strings.Clone(cut(header, keptMost)) }

// cut cuts a text to so many bytes, between characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xc0 == 0x80 {
		most--
	}
	return text[:most]
}
