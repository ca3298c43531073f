package bench

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"time"
)

// A message is 256 bytes of JSON with its fields at fixed offsets, so that clients need not parse it:
//
//	{"run":"k3f9x2ab","n":"00000001","t":"0001732460000000000","pad":"xxx…"}
//
// run is the id of the site. n is the number among the messages to a subject, from 1. t is the time of publishing in
// nanoseconds, by the wall clock, which is the same for all processes of a machine.
const (
	size    = 256
	idAt    = len(`{"run":"`)
	idLen   = 8
	nAt     = idAt + idLen + len(`","n":"`)
	nLen    = 8
	timeAt  = nAt + nLen + len(`","t":"`)
	timeLen = 19
)

// newID returns a random id of a site, of letters and digits.
func newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := make([]byte, idLen)
	for i := range id {
		id[i] = letters[rand.IntN(len(letters))]
	}
	return string(id)
}

// newMessage returns a message for stamp to complete.
func newMessage(id string) []byte {
	m := []byte(`{"run":"` + id + `","n":"00000000","t":"0000000000000000000","pad":"`)
	m = append(m, bytes.Repeat([]byte("x"), size-len(m)-2)...)
	return append(m, `"}`...)
}

// stamp sets the number and the time of a message.
func stamp(m []byte, n int, at time.Time) {
	digits(m[nAt:nAt+nLen], int64(n))
	digits(m[timeAt:timeAt+timeLen], at.UnixNano())
}

func digits(dst []byte, n int64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
}

// readMessage returns the number and the time of a message. ours is false if the message is not from the site with this
// id; an empty id means any site.
func readMessage(m []byte, id string) (n int, at time.Time, ours bool) {
	if len(m) != size || id != "" && string(m[idAt:idAt+idLen]) != id {
		return 0, at, false
	}
	n64, err := strconv.ParseInt(string(m[nAt:nAt+nLen]), 10, 64)
	nanoseconds, err2 := strconv.ParseInt(string(m[timeAt:timeAt+timeLen]), 10, 64)
	return int(n64), time.Unix(0, nanoseconds), err == nil && err2 == nil
}
