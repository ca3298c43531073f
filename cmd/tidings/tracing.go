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

// tracesWithin bounds how long the last spans are waited for.
const tracesWithin = 3 * time.Second

// startTracing has spans exported as the standard variables of OpenTelemetry say. Where they ask for nothing, there is no tracer; nor
// where they ask for what we cannot do: they may be set for all programs of a cluster, and notifications matter more than traces.
func startTracing(log zerolog.Logger, out io.Writer) (tracer trace.TracerProvider, stop func()) {
	// What goes wrong is told once a minute, and not on standard error by another hand; nor with values, which are keys where a variable
	// with headers cannot be understood.
	odd := log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { odd.Warn().Err(err).Msg("tracing") }))
	otel.SetLogger(funcr.New(func(_, text string) { odd.Warn().Str("what", text).Msg("tracing") }, funcr.Options{
		Verbosity: 1, RenderArgsHook: func([]any) []any { return nil },
	}))
	exporter, where, err := newExporter(out)
	if err != nil {
		log.Error().Err(err).Msg("there will be no traces")
	}
	if err != nil || exporter == nil {
		return nil, func() {}
	}
	log.Info().Str("to", where).Msg("tracing")

	about, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "tidings"), attribute.String("service.version", version())), resource.WithFromEnv())
	if err != nil { // it is whole but for what the variables say wrongly
		otel.Handle(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about)) // the sampler is the environment's
	return provider, func() {
		ctx, cancel := context.WithTimeout(context.Background(), tracesWithin)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn().Err(err).Msg("not all spans were exported")
		}
	}
}

// newExporter is the one that the variables ask for, and where it exports to; nil: none.
func newExporter(out io.Writer) (exporter sdk.SpanExporter, where string, err error) {
	asked := os.Getenv("OTEL_TRACES_EXPORTER")
	named := strings.TrimSpace(asked)
	for one := range strings.SplitSeq(asked, ",") { // of several the first that we know
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
			return nil, "", fmt.Errorf("%s=%s: spans go by http/protobuf only. "+
				"Set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf, and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the collector's address for it, "+
				"such as http://127.0.0.1:4318/v1/traces; or OTEL_TRACES_EXPORTER=none", variable, p)
		}
		variable, set := otlpVariable("ENDPOINT")
		endpoint, err := url.Parse(cmp.Or(set, "http://localhost:4318"))
		if err != nil || endpoint.Host == "" { // it may hold a password, and is not repeated
			return nil, "", fmt.Errorf("%s: it must be a URL such as http://127.0.0.1:4318", variable)
		}
		exporter, err = otlptracehttp.New(context.Background())                                        // which reads the rest of the variables
		where = (&url.URL{Scheme: endpoint.Scheme, Host: endpoint.Host, Path: endpoint.Path}).String() // keys may stand in the rest
		return exporter, where, err
	}
	return nil, "", fmt.Errorf("OTEL_TRACES_EXPORTER=%s: use otlp, console or none", asked)
}

// otlpVariable is OTEL_EXPORTER_OTLP_TRACES_…, or else the one for everything, and what it says.
func otlpVariable(name string) (variable, value string) {
	variable = "OTEL_EXPORTER_OTLP_TRACES_" + name
	if os.Getenv(variable) == "" {
		variable = "OTEL_EXPORTER_OTLP_" + name
	}
	return variable, os.Getenv(variable)
}
