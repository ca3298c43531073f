package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

const (
	traceID    = "4bf92f3577b34da6a3ce929d0e0e4736"
	traced     = "00-" + traceID + "-00f067aa0ba902b7-01"
	notSampled = "00-" + traceID + "-00f067aa0ba902b7-00"
)

// withTracer has the gateway's spans recorded.
func withTracer(spans *tracetest.InMemoryExporter) func(*nodeConfig) {
	return func(c *nodeConfig) { c.delivery.Tracer = sdk.NewTracerProvider(sdk.WithSyncer(spans)) }
}

// spansNamed waits for so many spans of that name.
func spansNamed(t *testing.T, all *tracetest.InMemoryExporter, name string, n int) (spans tracetest.SpanStubs) {
	t.Helper()
	streamstest.Eventually(t, patience, func() error {
		spans = nil
		for _, s := range all.GetSpans() {
			if s.Name == name {
				spans = append(spans, s)
			}
		}
		if len(spans) < n {
			return fmt.Errorf("%d spans %q, want %d", len(spans), name, n)
		}
		return nil
	})
	if len(spans) > n {
		t.Fatalf("%d spans %q, want %d: %+v", len(spans), name, n, spans)
	}
	return spans
}

// sendTraced publishes as any NATS client might.
func (n *node) sendTraced(t *testing.T, subject, header, value string) uint64 {
	t.Helper()
	msg := nats.NewMsg(subject)
	msg.Data = []byte(`{"a":1}`)
	if header != "" {
		msg.Header[header] = []string{value}
	}
	ack, err := n.js.PublishMsg(t.Context(), msg)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// rawFrames reads frames as they are, up to the first of that type.
func (p *peer) rawFrames(until string) (frames [][]byte) {
	p.t.Helper()
	for {
		_ = p.ws.SetReadDeadline(time.Now().Add(patience))
		_, frame, err := p.ws.ReadMessage()
		if err != nil {
			p.t.Fatal(err)
		}
		frames = append(frames, frame)
		if bytes.HasPrefix(frame, []byte(`{"type":"`+until+`"`)) {
			return frames
		}
	}
}

func TestSpansOfDelivery(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		tail int64
		off  bool
	}{
		"from memory": {tail: 1 << 20}, "from the stream": {tail: 1}, "off": {tail: 1 << 20, off: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans := tracetest.NewInMemoryExporter()
			n := newTown(t, func(c *nodeConfig) {
				c.tail.MaxBytes = test.tail
				if !test.off {
					withTracer(spans)(c)
				}
			})
			n.live(t, "alice") // so that the topic is hers
			missed := []uint64{n.sendTraced(t, "notify.user.alice", "traceparent", traced)}
			n.sendTraced(t, "notify.user.alice", "traceparent", notSampled)
			n.sendTraced(t, "notify.user.alice", "traceparent", traced+"00")
			n.sendTraced(t, "notify.user.alice", "", "")
			missed = append(missed, n.sendTraced(t, "notify.topic.all", "Traceparent", traced))
			spansNamed(t, spans, "deliver notification", map[bool]int{false: 2}[test.off]) // to her first connection
			spans.Reset()

			p := n.dial(t)
			p.send(wire.Auth{Token: "alice"})
			frames := p.rawFrames("live")
			live := n.sendTraced(t, "notify.user.alice", "traceparent", traced)
			frames = append(frames, p.rawFrames("msg")...)
			for _, frame := range frames {
				if _, err := wire.Decode(frame); err != nil || bytes.IndexByte(frame, 0) >= 0 || bytes.Contains(frame, []byte(traceID)) {
					t.Errorf("a client gets %q (%v)", frame, err)
				}
			}
			if len(frames) != 9 { // hello, ready, 5 messages, live, and one more
				t.Errorf("%d frames: %q", len(frames), frames)
			}
			if test.off {
				spansNamed(t, spans, "deliver notification", 0)
				return
			}
			seqs := map[string][]uint64{}
			for _, s := range spansNamed(t, spans, "deliver notification", 4) {
				seq, phase := checkSpan(t, s)
				seqs[phase] = append(seqs[phase], seq)
			}
			slices.Sort(seqs["live"])
			if !slices.Equal(seqs["replay"], missed) || !slices.Equal(seqs["live"], []uint64{live, live}) { // on both connections
				t.Errorf("spans of %v, want %v replayed and %d live, twice", seqs, missed, live)
			}
		})
	}
}

// checkSpan holds a span of a delivery against what it must be, and returns what it is of.
func checkSpan(t *testing.T, s tracetest.SpanStub) (seq uint64, phase string) {
	t.Helper()
	if s.SpanKind != trace.SpanKindConsumer || s.Parent.IsValid() || s.Status.Code != codes.Unset || !s.EndTime.After(s.StartTime) ||
		len(s.Links) != 1 || s.Links[0].SpanContext.TraceID().String() != traceID ||
		s.Links[0].SpanContext.SpanID().String() != "00f067aa0ba902b7" || s.SpanContext.TraceID().String() == traceID {
		t.Errorf("%+v", s)
	}
	got := map[string]attribute.Value{}
	for _, a := range s.Attributes {
		got[string(a.Key)] = a.Value
	}
	if len(got) != 5 || got["messaging.system"].AsString() != "nats" || got["messaging.operation.type"].AsString() != "process" ||
		got["messaging.destination.name"].AsString() != streams.DefaultName {
		t.Errorf("attributes %v", s.Attributes)
	}
	if strings.Contains(fmt.Sprintf("%+v", s), "alice") {
		t.Errorf("it names the user: %+v", s)
	}
	return uint64(got["tidings.seq"].AsInt64()), got["tidings.phase"].AsString()
}

func TestSpansOfEvents(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	n := newTown(t, withTracer(spans))
	n.sendTraced(t, "notify.user.alice", "traceparent", traced)
	l, _ := n.hear(t, "alice")
	l.seqs() // which reads JSON, and nothing behind it
	checkSpan(t, spansNamed(t, spans, "deliver notification", 1)[0])
}

func TestSpanOfADeliveryThatFails(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	n := newTown(t, withTracer(spans), func(c *nodeConfig) { c.delivery.WriteWithin = 300 * time.Millisecond })
	n.live(t, "alice") // and reads no more
	big := []byte(`"` + strings.Repeat("x", 200<<10) + `"`)
	streamstest.Eventually(t, patience, func() error {
		if _, err := n.publish.User(t.Context(), "alice", streams.Notification{Data: big, Traceparent: traced}); err != nil {
			return err
		}
		for _, s := range spans.GetSpans() {
			if s.Status.Code == codes.Error && s.Status.Description == "timeout" && len(s.Links) == 1 {
				return nil
			}
		}
		return errors.New("no span says that the client takes nothing")
	})
}

func TestSpansOfAuthentication(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	n := newNode(t, streamstest.Run(t).URL(), withTracer(spans), func(c *nodeConfig) { c.auth.Timeout = 300 * time.Millisecond })
	asked := make(chan string, 10)
	n.answer(t, auth.AuthenticatorFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		asked <- r.Traceparent
		switch r.Token {
		case "secret-no":
			return auth.Identity{}, &auth.Refusal{Code: "forbidden", Message: "secret-no is not known"}
		case "secret-late":
			<-ctx.Done()
		}
		return auth.Identity{User: "alice"}, nil
	}))
	for token, test := range map[string]struct {
		close    wire.CloseCode
		admitted bool
		status   codes.Code
	}{
		"secret-yes": {admitted: true}, "secret-no": {close: wire.CloseForbidden}, "secret-late": {close: wire.CloseUnavailable, status: codes.Error},
	} {
		spans.Reset()
		p := n.dial(t)
		p.send(wire.Auth{Token: token})
		if test.admitted {
			await[wire.Ready](p)
		} else {
			p.closed(test.close)
		}
		s := spansNamed(t, spans, "authenticate", 1)[0]
		want := fmt.Sprintf("00-%s-%s-01", s.SpanContext.TraceID(), s.SpanContext.SpanID())
		if got := <-asked; got != want {
			t.Errorf("%s: the question has the context %q, want %q", token, got, want)
		}
		if s.SpanKind != trace.SpanKindClient || s.Status.Code != test.status ||
			!slices.Contains(s.Attributes, attribute.Bool("tidings.admitted", test.admitted)) {
			t.Errorf("%s: %+v", token, s)
		}
		if text := fmt.Sprintf("%+v", s); strings.Contains(text, "secret") || strings.Contains(text, "alice") {
			t.Errorf("%s: it says too much: %s", token, text)
		}
	}
}

// A provider that does nothing has no context to go on with.
func TestATracerThatDoesNothingIsNotTold(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), func(c *nodeConfig) { c.delivery.Tracer = noop.NewTracerProvider() })
	n.answer(t, auth.AuthenticatorFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		if r.Traceparent != "" {
			t.Errorf("the question has the context %q", r.Traceparent)
		}
		return auth.Identity{User: "alice"}, nil
	}))
	n.live(t, "any")
}

func TestAPublicationCarriesItsTrace(t *testing.T) {
	t.Parallel()
	n := newTown(t, withKeys(apiKey)) // which does not trace
	for given, want := range map[string]string{traced: traced, notSampled: notSampled, traced + "-x": "", "": ""} {
		got := n.publishes(t, http.StatusAccepted, `{"to":"alice","data":1}`, "traceparent", given)
		stream, err := n.js.Stream(t.Context(), streams.DefaultName)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := stream.GetMsg(t.Context(), got.Results[0].Seq)
		if err != nil {
			t.Fatal(err)
		}
		if stored.Header.Get("traceparent") != want {
			t.Errorf("%q is stored as %q", given, stored.Header.Get("traceparent"))
		}
	}
}
