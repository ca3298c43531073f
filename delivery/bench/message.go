package bench

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"time"
)

// A message is 256 bytes of JSON in fixed places, so that clients need not parse it:
//
//	{"run":"k3f9x2ab","n":"00000001","t":"0001732460000000000","pad":"xxx…"}
//
// run is the site's, n counts the messages of a subject from 1, and t is when it was published, in nanoseconds by the wall clock,
// which processes of one machine share.
const (
	size    = 256
	idAt    = len(`{"run":"`)
	idLen   = 8
	nAt     = idAt + idLen + len(`","n":"`)
	nLen    = 8
	timeAt  = nAt + nLen + len(`","t":"`)
	timeLen = 19
)

// newID returns the name of a site: letters and digits.
func newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := make([]byte, idLen)
	for i := range id {
		id[i] = letters[rand.IntN(len(letters))]
	}
	return string(id)
}

// newMessage returns one to be stamped.
func newMessage(id string) []byte {
	m := []byte(`{"run":"` + id + `","n":"00000000","t":"0000000000000000000","pad":"`)
	m = append(m, bytes.Repeat([]byte("x"), size-len(m)-2)...)
	return append(m, `"}`...)
}

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

// readMessage reads one that was stamped on the site of this id, or on any where it is empty.
func readMessage(m []byte, id string) (n int, at time.Time, ours bool) {
	if len(m) != size || id != "" && string(m[idAt:idAt+idLen]) != id {
		return 0, at, false
	}
	n64, err := strconv.ParseInt(string(m[nAt:nAt+nLen]), 10, 64)
	nanoseconds, err2 := strconv.ParseInt(string(m[timeAt:timeAt+timeLen]), 10, 64)
	return int(n64), time.Unix(0, nanoseconds), err == nil && err2 == nil
}
