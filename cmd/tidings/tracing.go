package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// flushTimeout bounds the export of the last spans at shutdown.
const flushTimeout = 3 * time.Second

// startTracing exports spans as configured by the standard environment variables of OpenTelemetry. The tracer is nil if they do not enable
// tracing. It is nil too, with an error in the log, if they ask for something unsupported: they may be set for all programs of a cluster, and
// notifications matter more than traces. The caller calls stop at shutdown, which exports the last spans.
func startTracing(log zerolog.Logger, out io.Writer) (tracer trace.TracerProvider, stop func()) {
	// Log errors of OpenTelemetry at most once a minute; by default it writes to standard error itself. Leave out the values, which are secret
	// keys if a variable with headers is malformed.
	limited := log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { limited.Warn().Err(err).Msg("tracing") }))
	otel.SetLogger(funcr.New(func(_, text string) { limited.Warn().Str("what", text).Msg("tracing") }, funcr.Options{
		Verbosity: 1, RenderArgsHook: func([]any) []any { return nil },
	}))
	exporter, where, err := newExporter(out)
	if err != nil {
		log.Error().Err(err).Msg("tracing disabled")
	}
	if err != nil || exporter == nil {
		return nil, func() {}
	}
	log.Info().Str("to", where).Msg("tracing")

	about, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "tidings"), attribute.String("service.version", version())), resource.WithFromEnv())
	if err != nil { // the resource is usable, and lacks only what the variables say wrongly
		otel.Handle(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about)) // reads the sampler from the environment
	return provider, func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn().Err(err).Msg("not all spans were exported")
		}
	}
}

// newExporter returns the exporter that the environment variables select, and a description of where it exports to. The exporter is nil if
// they select none.
func newExporter(out io.Writer) (exporter sdk.SpanExporter, where string, err error) {
	asked := os.Getenv("OTEL_TRACES_EXPORTER")
	named := strings.TrimSpace(asked)
	for one := range strings.SplitSeq(asked, ",") { // use the first supported one of several
		if one = strings.TrimSpace(one); one == "otlp" || one == "console" || one == "none" {
			named = one
			break
		}
	}
	if named == "" && (os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "") {
		named = "otlp"
	}
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		named = "none"
	}
	switch named {
	case "", "none":
		return nil, "", nil
	case "console":
		exporter, err = stdouttrace.New(stdouttrace.WithWriter(out))
		return exporter, named, err
	case "otlp":
		if variable, p := otlpVariable("PROTOCOL"); p != "" && p != "http/protobuf" {
			return nil, "", fmt.Errorf("%s=%s: only http/protobuf is supported: "+
				"set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf, and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the collector's URL for it, "+
				"such as http://127.0.0.1:4318/v1/traces; or OTEL_TRACES_EXPORTER=none", variable, p)
		}
		variable, set := otlpVariable("ENDPOINT")
		endpoint, err := url.Parse(cmp.Or(set, "http://localhost:4318"))
		if err != nil || endpoint.Host == "" { // the error leaves out the value, which may contain a password
			return nil, "", fmt.Errorf("%s: not a URL (use one such as http://127.0.0.1:4318)", variable)
		}
		exporter, err = otlptracehttp.New(context.Background())                                        // reads the other variables itself
		where = (&url.URL{Scheme: endpoint.Scheme, Host: endpoint.Host, Path: endpoint.Path}).String() // the rest may contain keys
		return exporter, where, err
	}
	return nil, "", fmt.Errorf("OTEL_TRACES_EXPORTER=%s: use otlp, console or none", asked)
}

// otlpVariable returns the name and value of OTEL_EXPORTER_OTLP_TRACES_<name>, or of OTEL_EXPORTER_OTLP_<name> if that is not set.
func otlpVariable(name string) (variable, value string) {
	variable = "OTEL_EXPORTER_OTLP_TRACES_" + name
	if os.Getenv(variable) == "" {
		variable = "OTEL_EXPORTER_OTLP_" + name
	}
	return variable, os.Getenv(variable)
}
