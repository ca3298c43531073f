package delivery

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// metrics are what Prometheus reads of one gateway. No label names a user, a device, a topic or a connection, and the values of each
// are few and known.
type metrics struct {
	registry *prometheus.Registry

	connections *prometheus.GaugeVec // by state and line
	opened      *prometheus.CounterVec
	closed      *prometheus.CounterVec // by code and by whom

	authRequests *prometheus.CounterVec
	authTook     prometheus.Histogram
	authInFlight prometheus.Gauge

	replayed, delivered prometheus.Counter // phases of one metric
	latency             prometheus.Histogram
	replaySize          prometheus.Histogram
	replayTook          prometheus.Histogram
	gaps                *prometheus.CounterVec

	acks, acksHTTP prometheus.Counter // lines of one metric
	commits        *prometheus.CounterVec
	commitTook     prometheus.Histogram
	coldTook       *prometheus.HistogramVec
	coldMessages   *prometheus.CounterVec
	coldFailed     *prometheus.CounterVec

	published *prometheus.CounterVec
	limits    *prometheus.CounterVec
}

// Values of labels, which are exposed as 0 before anything has happened, so that a first time is an increase.
var (
	stateNames   = [...]string{"authenticating", "replaying", "live"}
	lineNames    = []string{"websocket", "sse"}
	authResults  = []string{"admitted", "refused", "unavailable", "not_asked", "busy", "bad_reply", "canceled"}
	publishings  = []string{"stored", "duplicate", "refused", "failed"}
	coldKinds    = []string{"alone", "sweep"}
	commitStates = []string{
		string(streams.CommitMoved), string(streams.CommitSkipped), string(streams.CommitGone), string(streams.CommitFailed),
	}
	limitKinds = slices.AppendSeq([]string{limitOrigin, limitDraining}, maps.Keys(limitReasons))
	gapReasons = []string{wire.GapExpired, wire.GapLimit, wire.GapStreamReset, wire.GapPurged}
	closeCodes = []wire.CloseCode{
		websocket.CloseProtocolError, websocket.CloseInvalidFramePayloadData,
		wire.CloseBadFrame, wire.CloseUnauthorized, wire.CloseForbidden, wire.CloseNoProtocol, wire.CloseDisconnected, wire.CloseTooLarge,
		wire.CloseInternal, wire.CloseLeaseExpired, wire.CloseUnavailable, wire.CloseTimeout, wire.CloseStreamReplaced, wire.CloseDraining,
		wire.CloseTooMany,
	}
)

// metricsPrefix begins the names of all that are ours.
const metricsPrefix = "tidings"

func newMetrics(version string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewBuildInfoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	auto := promauto.With(m.registry)
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: metricsPrefix, Name: name, Help: help}
	}
	counters := func(label string, values []string, name, help string) *prometheus.CounterVec {
		vec := auto.NewCounterVec(prometheus.CounterOpts{Namespace: metricsPrefix, Name: name, Help: help}, []string{label})
		for _, v := range values {
			vec.WithLabelValues(v)
		}
		return vec
	}
	histogram := func(buckets []float64, name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: metricsPrefix, Name: name, Help: help, Buckets: buckets}
	}
	seconds := []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

	auto.NewGaugeVec(gauge("build_info", "Always 1: the version of the gateway and of Go."), []string{"version", "goversion"}).
		WithLabelValues(version, runtime.Version()).Set(1)

	m.connections = auto.NewGaugeVec(gauge("connections", "Connections of clients."), []string{"state", "line"})
	for _, state := range stateNames {
		for _, line := range lineNames {
			m.connections.WithLabelValues(state, line)
		}
	}
	m.opened = counters("line", lineNames, "connections_opened_total", "Connections that clients opened, before they authenticated.")
	m.closed = auto.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsPrefix, Name: "connections_closed_total",
		Help: "Connections that ended, by close code, and by whom: client, gateway, or network (1006, no word came).",
	}, []string{"code", "by"})
	for _, code := range closeCodes {
		m.closed.WithLabelValues(codeLabel(int(code)), byGateway)
	}

	m.authRequests = counters("result", authResults, "auth_requests_total", "Callers who asked about a token: connections, renewals and HTTP. Those who share a question are counted each; not_asked, after many without an answer.")
	m.authTook = auto.NewHistogram(histogram(seconds, "auth_duration_seconds", "Time until a caller had an answer about a token, or there was none in time, with the wait for a turn to ask. Who was not asked about (busy, not_asked), or went, is left out."))
	m.authInFlight = auto.NewGauge(gauge("auth_in_flight", "Callers who wait for an answer about a token, or for a turn to ask."))

	phases := counters("phase", nil, "delivered_total", "Notifications written to connections: while they caught up, and live.")
	m.replayed, m.delivered = phases.WithLabelValues("replay"), phases.WithLabelValues("live")
	m.latency = auto.NewHistogram(histogram(seconds, "delivery_latency_seconds",
		"Time from store to write, of the oldest notification in each write to a live connection, slow clients too. "+
			"By the server's clock at the store and ours at the write: where ours is behind it counts as 0."))
	m.replaySize = auto.NewHistogram(histogram([]float64{0, 1, 5, 10, 50, 100, 500, 1000, 5000, 10_000}, "replay_messages",
		"Notifications that a connection was sent until it was live."))
	m.replayTook = auto.NewHistogram(histogram([]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		"replay_duration_seconds", "Time from ready to live."))
	m.gaps = counters("reason", gapReasons, "gaps_total", "Gaps that clients were told of: something of theirs may be gone.")

	acks := counters("line", nil, "acks_total", "Acknowledgements that moved a position: over WebSocket, and by POST /v1/ack.")
	m.acks, m.acksHTTP = acks.WithLabelValues("websocket"), acks.WithLabelValues("http")
	m.commits = counters("result", commitStates, "commits_total",
		"Positions brought to the stream: moved, skipped where another gateway had, gone where the user was forgotten, failed and tried again.")
	m.commitTook = auto.NewHistogram(histogram(seconds, "commit_duration_seconds", "Time for the stream to move a position."))

	m.coldTook = auto.NewHistogramVec(histogram(seconds, "cold_read_duration_seconds",
		"Time of one read of the stream for what is older than memory: for one reader alone, or a sweep for many."), []string{"kind"})
	for _, kind := range coldKinds {
		m.coldTook.WithLabelValues(kind)
	}
	m.coldMessages = counters("kind", coldKinds, "cold_read_messages_total", "Messages that such reads took from the stream.")
	m.coldFailed = counters("kind", coldKinds, "cold_read_failures_total", "Such reads that failed, and are tried again.")

	m.published = counters("result", publishings, "published_total",
		"Notifications published over HTTP, each recipient counted: refused is the publisher's mistake, failed is not.")
	m.limits = counters("kind", limitKinds, "limited_total",
		"Connections and requests that were turned away, by the limit.")
	return m
}

// watch has the state of what the gateway stands on read at each scrape.
func (m *metrics) watch(g *Gateway) {
	auto := promauto.With(m.registry)
	read := func(name, help string, value func() float64) {
		auto.NewGaugeFunc(prometheus.GaugeOpts{Namespace: metricsPrefix, Name: name, Help: help}, value)
	}
	read("users", "Users with a connection.", func() float64 { return float64(g.hub.size()) })
	if nc := g.cfg.NATS; nc != nil {
		read("nats_connected", "1 while the gateway is connected to NATS.", func() float64 { return oneIf(nc.IsConnected()) })
		auto.NewCounterFunc(prometheus.CounterOpts{
			Namespace: metricsPrefix, Name: "nats_reconnects_total", Help: "Times that the connection to NATS was made again.",
		}, func() float64 { return float64(nc.Stats().Reconnects) })
	}
	if expires := g.cfg.CertificateExpires; expires != nil {
		read("certificate_expires_timestamp_seconds", "When the certificate ends that clients are shown.", func() float64 { return float64(expires().Unix()) })
	}
	if failures := g.cfg.ReloadFailures; failures != nil {
		auto.NewCounterFunc(prometheus.CounterOpts{
			Namespace: metricsPrefix, Name: "reload_failures_total", Help: "Times that a changed certificate or file of keys could not be used.",
		}, func() float64 { return float64(failures()) })
	}
	if full := g.cfg.DiskFull; full != nil {
		read("disk_full", "1 while publishing is refused because the disk of the embedded NATS server is full, or its store has reached its limit (--max-store).", func() float64 { return oneIf(full()) })
	}
	if tail := g.cfg.Tail; tail != nil {
		tail.ObserveColdReads(m.coldRead)
		read("tail_messages", "Messages in memory.", func() float64 { return float64(tail.Stats().Messages) })
		read("tail_bytes", "What the messages in memory take.", func() float64 { return float64(tail.Stats().Bytes) })
		read("tail_limit_bytes", "What they may take (--tail).", func() float64 { return float64(tail.Stats().MaxBytes) })
		read("tail_lag_messages", "Messages between the stream's end, as last seen, and what the gateway has read of it.", func() float64 {
			st := tail.Stats()
			return float64(st.Last - st.Through)
		})
		read("tail_warm", "1 once the newest part of the stream is in memory, and clients are served.", func() float64 { return oneIf(tail.Stats().Warm) })
		read("stream_unfit", "1 while a setting of the stream that Tidings depends on is wrong, and is not put back.", func() float64 { return oneIf(tail.Stats().Unfit) })
		read("cold_reads_waiting", "Connections that wait for a turn at reading the stream.", func() float64 { return float64(tail.Stats().Waiting) })
	}
	if cursors := g.cfg.Cursors; cursors != nil {
		cursors.ObserveCommits(m.commit)
		read("cursors", "Positions in memory: of connections, and those not yet committed.", func() float64 { return float64(cursors.Stats().Held) })
		read("cursors_pending", "Positions acknowledged further than committed.", func() float64 { return float64(cursors.Stats().Pending) })
	}
}

// Metrics serves this gateway's metrics, the process's and the Go runtime's to Prometheus. They are not for the public.
func (g *Gateway) Metrics() http.Handler {
	return promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// codeLabel is the close code where it is the protocol's or of RFC 6455: a client can say any.
func codeLabel(code int) string {
	if code >= 1000 && code <= 1015 || slices.Contains(closeCodes, wire.CloseCode(code)) {
		return strconv.Itoa(code)
	}
	return "other"
}

// limited counts who was turned away; kind is one of few.
func (m *metrics) limited(kind string) { m.limits.WithLabelValues(kind).Inc() }

func (m *metrics) commit(result streams.CommitResult, took time.Duration) {
	m.commits.WithLabelValues(string(result)).Inc()
	m.commitTook.Observe(took.Seconds())
}

func (m *metrics) coldRead(r streams.ColdRead) {
	kind := coldKinds[0]
	if r.Sweep {
		kind = coldKinds[1]
	}
	m.coldTook.WithLabelValues(kind).Observe(r.Took.Seconds())
	m.coldMessages.WithLabelValues(kind).Add(float64(r.Messages))
	if r.Failed {
		m.coldFailed.WithLabelValues(kind).Inc()
	}
}

// publication counts what became of one recipient's.
func (m *metrics) publication(r streams.Result) {
	result := "stored"
	switch {
	case r.Err != nil && problemFor(r.Err).Status < http.StatusInternalServerError:
		result = "refused"
	case r.Err != nil:
		result = "failed"
	case r.Duplicate:
		result = "duplicate"
	}
	m.published.WithLabelValues(result).Inc()
}

// countedAuth counts callers, and what they were answered.
type countedAuth struct {
	auth.Authenticator
	*metrics
}

func (a countedAuth) Authenticate(ctx context.Context, question auth.Request) (auth.Identity, error) {
	a.authInFlight.Inc()
	defer a.authInFlight.Dec()
	began := time.Now()
	identity, err := a.Authenticator.Authenticate(ctx, question)
	result := authResult(ctx, err)
	a.authRequests.WithLabelValues(result).Inc()
	switch result {
	case "not_asked", "busy", "canceled": // how soon, or late, tells nothing of the responder
	default:
		a.authTook.Observe(time.Since(began).Seconds())
	}
	return identity, err
}

func authResult(ctx context.Context, err error) string {
	var refusal *auth.Refusal
	var unasked *auth.Unavailable
	switch {
	case err == nil:
		return "admitted"
	case errors.As(err, &refusal):
		return "refused"
	case errors.Is(err, auth.ErrBadReply):
		return "bad_reply"
	case errors.As(err, &unasked):
		return "not_asked"
	case errors.Is(err, auth.ErrBusy):
		return "busy"
	case errors.Is(ctx.Err(), context.Canceled): // the client is gone
		return "canceled"
	}
	return "unavailable"
}
