package streamstest

import (
	"reflect"
	"testing"

	"github.com/nats-io/nats.go"
)

// Requests returns how many requests nats.go keeps on the connection as waiting for an answer. Nothing may be asked meanwhile.
func Requests(tb testing.TB, nc *nats.Conn) int {
	tb.Helper()
	waiting := reflect.ValueOf(nc).Elem().FieldByName("respMap") // it has no name for others
	if waiting.Kind() != reflect.Map {
		tb.Fatal("nats.Conn has no map respMap any more: find where this release keeps requests")
	}
	return waiting.Len()
}
