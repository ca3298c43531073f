package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// An unknown TIDINGS_ variable is logged, without its value, unless Kubernetes set it.
func TestVariablesThatSetNothing(t *testing.T) {
	var log bytes.Buffer
	cmd, _, err := newRoot().Find([]string{"gateway"})
	if err != nil {
		t.Fatal(err)
	}
	warnAboutUnknownVariables(zerolog.New(&log), cmd, []string{
		"PATH=/bin", "TIDINGS_PING=1s", "TIDINGS_TTL=1h", "TIDINGS_USERS=x", "TIDINGS_API_KEY=x", "TIDINGS_API_KEYS=x", "TIDINGS_TOKEN=x", "TIDINGS_LONG=1",
		"TIDINGS_SERVICE_HOST=10.96.0.4", "TIDINGS_SERVICE_PORT=8080", "TIDINGS_SERVICE_PORT_HTTP=8080", "TIDINGS_PORT=tcp://10.96.0.4:8080",
		"TIDINGS_PORT_8080_TCP=tcp://10.96.0.4:8080", "TIDINGS_PORT_8080_TCP_PROTO=tcp", "TIDINGS_PORT_8080_TCP_ADDR=10.96.0.4",
		"TIDINGS_NATS_SERVICE_HOST=10.96.0.5", "TIDINGS_NATS_PORT_4222_TCP_PORT=4222", "TIDINGS_OTHER_PORT=udp://10.96.0.6:1",
		"TIDINGS_TRUSTED_PROXIES=secret", "TIDINGS_FOO=secret", "TIDINGS_HTTP_PORT=secret", "TIDINGS_ORIGINS=secret", "TIDINGS_MAX_CONECTIONS=secret",
	})
	var told []string
	for _, line := range regexp.MustCompile(`unknown setting: [^"]*`).FindAllString(log.String(), -1) {
		told = append(told, strings.TrimPrefix(line, "unknown setting: "))
	}
	want := "TIDINGS_FOO, TIDINGS_HTTP_PORT, TIDINGS_MAX_CONECTIONS (did you mean TIDINGS_MAX_CONNECTIONS?), TIDINGS_ORIGINS (did you mean TIDINGS_ORIGIN?), " +
		"TIDINGS_TRUSTED_PROXIES (did you mean TIDINGS_TRUSTED_PROXY?)"
	if got := strings.Join(told, ", "); got != want {
		t.Errorf("told of %s, want %s", got, want)
	}
	if strings.Contains(log.String(), "secret") || strings.Count(log.String(), `"level":"warn"`) != 5 {
		t.Errorf("the log says: %s", log.String())
	}
}
