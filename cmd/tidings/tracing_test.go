package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rs/zerolog"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// collector receives spans by OTLP/HTTP.
type collector struct {
	url string

	mu     sync.Mutex
	bodies [][]byte
	header http.Header
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, err = io.ReadAll(z)
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s %v: %v", r.Method, r.URL, r.Header, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.bodies, c.header = append(c.bodies, body), r.Header
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// spans returns the received spans by name, with the attributes of their sender.
func (c *collector) spans(t *testing.T) (spans map[string][]*traces.Span, from string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	spans = map[string][]*traces.Span{}
	for _, body := range c.bodies {
		var data traces.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Fatal(err)
		}
		for _, resource := range data.ResourceSpans {
			from += resource.Resource.String()
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					spans[span.Name] = append(spans[span.Name], span)
				}
			}
		}
	}
	return spans, from
}

// TestTracesReachACollector: a publication's trace is linked from its delivery, and the collector learns neither user nor token.
func TestTracesReachACollector(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	t.Run("story", func(t *testing.T) {
		runScripts(t, testscript.Params{Files: []string{filepath.Join("..", "..", "testdata", "tracing.txtar")}}, "COLLECTOR="+c.url)
	})
	spans, from := c.spans(t)
	if len(spans["deliver notification"]) != 1 || len(spans["authenticate"]) != 1 || len(spans) != 2 {
		t.Fatalf("spans %v", spans)
	}
	span := spans["deliver notification"][0]
	if len(span.Links) != 1 || fmt.Sprintf("%x-%x", span.Links[0].TraceId, span.Links[0].SpanId) != "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7" ||
		len(span.ParentSpanId) > 0 || span.Kind != traces.Span_SPAN_KIND_CONSUMER {
		t.Errorf("%v", span)
	}
	for _, want := range []string{`"service.name"`, `"tidings"`, `"service.version"`, `"deployment.environment.name"`} {
		if !strings.Contains(from, want) {
			t.Errorf("they come from %s, which lacks %s", from, want)
		}
	}
	if got := c.header.Get("Api-Key"); got != "a key" {
		t.Errorf("the header of the variable is %q", got)
	}
	for _, body := range c.bodies {
		for _, secret := range []string{"token-1", "user.42", "notify."} {
			if bytes.Contains(body, []byte(secret)) {
				t.Errorf("the collector is told %s: %q", secret, body)
			}
		}
	}
}

// setTracing sets these variables, and no others of OpenTelemetry's.
func setTracing(t *testing.T, variables ...string) {
	t.Helper()
	for _, name := range []string{
		"OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
	} {
		t.Setenv(name, "")
	}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

func TestTracingByVariables(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"
	for _, test := range []struct{ variables, where, err string }{
		{"", "", ""},
		{"OTEL_TRACES_EXPORTER=none " + endpoint, "", ""},
		{"OTEL_SDK_DISABLED=TRUE OTEL_TRACES_EXPORTER=rubbish", "", ""},
		{"OTEL_TRACES_EXPORTER=console", "console", ""},
		{"OTEL_TRACES_EXPORTER=otlp", "http://localhost:4318", ""},
		{endpoint, "http://c:4318", ""},
		{endpoint + "/base/ OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "http://c:4318/base/", ""},
		{endpoint + " OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://u:secret@d/x", "https://d/x", ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://secret@c:4318", "http://c:4318", ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c/x?api_key=secret#secret", "https://c/x", ""},
		{"OTEL_TRACES_EXPORTER=otlp,console", "http://localhost:4318", ""},
		{"OTEL_TRACES_EXPORTER=zipkin,console", "console", ""},
		{"OTEL_TRACES_EXPORTER=zipkin", "", "use otlp, console or none"},
		{endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf is supported"},
		{endpoint + " OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", "", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc: only"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=u:secret@c:4318", "", "OTEL_EXPORTER_OTLP_ENDPOINT: not a URL"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=u:secret@c:4318", "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: not a URL"},
	} {
		t.Run(test.variables, func(t *testing.T) {
			setTracing(t, strings.Fields(test.variables)...)
			exporter, where, err := newExporter(io.Discard)
			if err != nil && (test.err == "" || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "secret")) ||
				err == nil && (test.err != "" || where != test.where || (exporter != nil) != (where != "")) {
				t.Errorf("%v to %q: %v", exporter, where, err)
			}
		})
	}
}

// Headers for a collector contain keys: the log reports malformed ones without their values.
func TestHeadersForACollectorStaySecret(t *testing.T) {
	for _, headers := range []string{"secret", "k=%secret", "k(secret=v"} {
		setTracing(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS="+headers)
		var log bytes.Buffer
		_, stop := startTracing(zerolog.New(zerolog.SyncWriter(&log)), io.Discard)
		stop()
		if got := log.String(); !strings.Contains(got, "header") || strings.Contains(got, "secret") {
			t.Errorf("%s: %s", headers, got)
		}
	}
}

func TestACollectorThatIsAway(t *testing.T) {
	setTracing(t, fmt.Sprintf("OTEL_EXPORTER_OTLP_ENDPOINT=http://u:secret@127.0.0.1:%d", streamstest.FreePort(t)),
		"OTEL_EXPORTER_OTLP_TIMEOUT=50", "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1")
	var log bytes.Buffer
	tracer, stop := startTracing(zerolog.New(zerolog.SyncWriter(&log)), io.Discard)
	for range 5 {
		_, span := tracer.Tracer("").Start(context.Background(), "one")
		span.End()
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > flushTimeout+10*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	if got := log.String(); strings.Count(got, `"message":"tracing"`) != 2 || !strings.Contains(got, `"level":"warn"`) || strings.Contains(got, "secret") {
		t.Errorf("the log says: %s", got) // where to, and one failure
	}
}
