package streamstest

import (
	"reflect"
	"testing"

	"github.com/nats-io/nats.go"
)

// Requests returns how many requests on the connection wait for a reply, as counted by nats.go. No request may be sent
// during the call.
func Requests(tb testing.TB, nc *nats.Conn) int {
	tb.Helper()
	waiting := reflect.ValueOf(nc).Elem().FieldByName("respMap") // nats.go does not export it
	if waiting.Kind() != reflect.Map {
		tb.Fatal("nats.Conn has no map respMap: find where this release of nats.go keeps pending requests")
	}
	return waiting.Len()
}
