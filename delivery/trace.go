package delivery

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/streams"
)

// A publisher's trace context goes through the Tail behind its frame: a NUL, which no JSON holds, and the traceparent. So entries stay as
// small as they are, and without a tracer nothing is there.
const traceSuffix = 1 + len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

// Encoder is how a Tail must keep messages for a Gateway with this Config.Tracer.
func Encoder(tracer trace.TracerProvider) func(dst []byte, m *streams.Message) []byte {
	if tracer == nil {
		return Encode
	}
	return func(dst []byte, m *streams.Message) []byte {
		dst = Encode(dst, m)
		publisher := m.Traceparent()
		if parseTraceparent(publisher).IsSampled() { // a link to what nobody has recorded leads nowhere
			dst = append(append(dst, 0), publisher...)
		}
		return dst
	}
}

// cutTrace takes apart what Encoder has put together.
func cutTrace(frame []byte) (_ []byte, publisher trace.SpanContext) {
	at := len(frame) - traceSuffix
	if at < 0 || frame[at] != 0 {
		return frame, publisher
	}
	return frame[:at:at], parseTraceparent(string(frame[at+1:]))
}

// parseTraceparent reads one that is valid; of an empty one nothing is.
func parseTraceparent(s string) trace.SpanContext {
	if s == "" {
		return trace.SpanContext{}
	}
	traceID, _ := trace.TraceIDFromHex(s[3:35])
	spanID, _ := trace.SpanIDFromHex(s[36:52])
	flags, _ := strconv.ParseUint(s[53:], 16, 8)
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.TraceFlags(flags), Remote: true})
}

// trace makes the gateway one that traces, where it has a tracer.
func (g *Gateway) trace() {
	if g.cfg.Tracer == nil {
		return
	}
	g.tracer = g.cfg.Tracer.Tracer("github.com/tidings-io/tidings/delivery", trace.WithInstrumentationVersion(g.cfg.Version))
	g.cfg.Auth = tracedAuth{g.cfg.Auth, g.tracer}
}

// trace begins the span of a message whose publisher was traced, and returns the frame without its context. The span is linked to the
// publisher's, and not its child: a notification may be delivered days later, and to many.
func (w *writer) trace(e *streams.Entry) []byte {
	frame, publisher := cutTrace(e.Frame)
	if !publisher.IsValid() {
		return frame
	}
	phase := "replay"
	if w.state == live {
		phase = "live"
	}
	_, span := w.g.tracer.Start(context.Background(), "deliver notification",
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: publisher}),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", w.g.cfg.Stream.Name()), // the subject would name the user
			attribute.Int64("tidings.seq", int64(e.Seq)),
			attribute.String("tidings.phase", phase),
		))
	w.spans = append(w.spans, span)
	return frame
}

// flush is the session's, and ends the spans of what it sends.
func (w *writer) flush() error {
	err := w.session.flush()
	w.spans.end(err)
	return err
}

// errUnsent is of what is held when a connection ends. It may still be taken.
var errUnsent = errors.New("the connection ended before it was sent")

// spans have begun.
type spans []trace.Span

func (s *spans) end(err error) {
	if len(*s) == 0 {
		return
	}
	for _, span := range *s {
		if err != nil {
			span.SetStatus(codes.Error, failure(err))
		}
		span.End()
	}
	*s = nil
}

// failure is what a span may say of an error: errors themselves hold addresses, and words of backends.
func failure(err error) string {
	for _, known := range []error{
		errUnsent, errTimeout, errLeaseExpired, errClientGone, auth.ErrBusy, auth.ErrUnavailable, auth.ErrBadReply, context.Canceled,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "failed"
}

// tracedAuth makes spans of questions. Who answers may go on with them.
type tracedAuth struct {
	auth   auth.Authenticator
	tracer trace.Tracer
}

// Authenticate asks, with the context of its span in the question.
func (t tracedAuth) Authenticate(ctx context.Context, r auth.Request) (auth.Identity, error) {
	ctx, span := t.tracer.Start(ctx, "authenticate", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("messaging.system", "nats"), attribute.Bool("tidings.renew", r.Renew)))
	defer span.End()
	if own := span.SpanContext(); own.IsValid() { // that of a provider which does nothing is not
		r.Traceparent = fmt.Sprintf("00-%s-%s-%s", own.TraceID(), own.SpanID(), own.TraceFlags())
	}
	identity, err := t.auth.Authenticate(ctx, r)
	var refusal *auth.Refusal
	refused := errors.As(err, &refusal) // which is a good answer
	span.SetAttributes(attribute.Bool("tidings.admitted", err == nil))
	if err != nil && !refused {
		span.SetStatus(codes.Error, failure(err))
	}
	return identity, err
}
