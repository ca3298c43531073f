// Package delivery is the gateway: it authenticates WebSocket clients, replays what each user missed and delivers what comes,
// by the protocol tidings.v1 (package wire). Beside that it has an HTTP API for backends, whose reference is openapi.json.
package delivery

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/delivery/web"
	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams"
)

// Config of a Gateway. Zero fields mean the default where one is given.
type Config struct {
	NATS    *nats.Conn // for what gateways tell each other
	Auth    auth.Authenticator
	Stream  *streams.Stream
	Tail    *streams.Tail // made with Encode, or the Encoder of Tracer
	Cursors *streams.Cursors

	Origins []string // browsers on these origins may connect, beside those of the same host, such as "https://app.example"; see CheckOrigins
	Demo    bool     // serve the demo page at /

	APIKeys Keys   // who may use the HTTP API; none: it is off
	DemoKey string // one more, which the demo page gets
	// TokenCookie names a cookie in which browsers send the token, so that EventSource, which sends no header of one's own, can be a
	// client. It counts only from pages of Origins and of the same host. Empty: none does.
	TokenCookie string
	Limits      Limits // none where they are zero
	// Listener is that of NewListener, if clients come by it: its refusals are among the metrics.
	Listener net.Listener

	AuthWithin   time.Duration // to the client's first frame: 10 s
	OpenWithin   time.Duration // from that to ready: 14 s, since our clients take 15 s of silence for a broken connection
	Ping         time.Duration // between the server's pings: 25 s
	PongWithin   time.Duration // for the client's answer: 10 s
	WriteWithin  time.Duration // for a write that stalls: 10 s
	MaxFrame     int64         // bytes of a client's frame: 16 KiB
	Drain        time.Duration // over which sessions end at shutdown, a second for the last goodbyes included: 10 s
	ExpiringLead time.Duration // before a lease ends, or half the lease if that is shorter: 60 s

	// For metrics, of what is not the gateway's. Nil: there is no such metric.
	CertificateExpires func() time.Time // when that ends which clients are shown
	ReloadFailures     func() uint64    // how often files could not be read again
	DiskFull           func() bool      // whether the embedded server refuses publishing: its disk is full, or its store has reached its limit

	Version string
	Logger  zerolog.Logger
	Tracer  trace.TracerProvider // of spans; the Tail must be made with its Encoder. Nil: there are none
}

// Gateway serves clients. Make it with New, mount Handler, have Run going, and Drain it at the end.
type Gateway struct {
	cfg     Config
	log     zerolog.Logger
	oddLog  zerolog.Logger // of what others did wrong: a line a minute
	authLog zerolog.Logger // of a backend that does not answer, likewise

	strangerLog zerolog.Logger // of connections that end before they are admitted: 20 lines a second, or an attack would fill the disk
	tracer      trace.Tracer   // nil: off
	keys        atomic.Pointer[Keys]
	hub         *hub
	gate        *gate
	metrics     *metrics
	upgrader    websocket.Upgrader
	held        sync.Pool // of corks
	frames      sync.Pool // of *bytes.Buffer, for what clients send

	ctx   context.Context // of all sessions; its cause is why they end
	end   context.CancelCauseFunc
	all   everyone
	ready chan struct{}
	made  atomic.Int64
}

// New returns a gateway; nothing is started yet.
func New(cfg Config) *Gateway {
	cfg.AuthWithin = cmp.Or(cfg.AuthWithin, 10*time.Second)
	cfg.OpenWithin = cmp.Or(cfg.OpenWithin, 14*time.Second)
	cfg.Ping = cmp.Or(cfg.Ping, 25*time.Second)
	cfg.PongWithin = cmp.Or(cfg.PongWithin, 10*time.Second)
	cfg.WriteWithin = cmp.Or(cfg.WriteWithin, 10*time.Second)
	cfg.MaxFrame = cmp.Or(cfg.MaxFrame, 16<<10)
	cfg.Drain = cmp.Or(cfg.Drain, 10*time.Second)
	cfg.ExpiringLead = cmp.Or(cfg.ExpiringLead, time.Minute)
	cfg.Version = cmp.Or(cfg.Version, "0.0.0")
	g := &Gateway{
		cfg: cfg, log: cfg.Logger, hub: newHub(), gate: newGate(cfg.Limits, cfg.Logger), metrics: newMetrics(cfg.Version), ready: make(chan struct{}),
	}
	g.SetKeys(cfg.APIKeys)
	g.metrics.watch(g)
	g.metrics.watchDoor(cfg.Listener)
	g.cfg.Auth = countedAuth{encodable{cfg.Auth}, g.metrics}
	g.trace()
	g.oddLog = seldom(g.log)
	g.authLog = seldom(g.log)
	g.strangerLog = g.log.Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Second})
	g.all.sessions = map[*session]struct{}{}
	g.ctx, g.end = context.WithCancelCause(context.Background())
	g.upgrader = websocket.Upgrader{
		HandshakeTimeout: 5 * time.Second,
		ReadBufferSize:   512, // most frames are acknowledgements
		WriteBufferPool:  &sync.Pool{},
		Subprotocols:     []string{wire.Subprotocol},
		CheckOrigin:      g.allowed,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			w.Header().Set("Sec-WebSocket-Version", "13") // as RFC 6455, 4.2.2, has it where that is what was wrong
			writeProblem(w, problemf(status, "%s: here speaks a WebSocket, and not plain HTTP", reason))
		},
	}
	return g
}

// seldom is a log with a line a minute.
func seldom(log zerolog.Logger) zerolog.Logger {
	return log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
}

// Encode is how a Tail must keep messages for a Gateway: as msg frames.
func Encode(dst []byte, m *streams.Message) []byte {
	return wire.AppendMsg(dst, wire.Payload{
		Seq: m.Seq, ID: m.ID, Kind: m.Kind, Time: m.Time, Topic: m.Topic(), ContentType: m.ContentType, Data: m.Data,
	})
}

// Handler returns the public routes.
func (g *Gateway) Handler() http.Handler {
	r := chi.NewRouter()
	if g.cfg.Demo {
		r.Use(localOnly)
	}
	r.Use(g.behindProxies)
	r.Get(wire.Path, g.serveWebSocket)
	g.routeAPI(r)
	for path, module := range web.Client() {
		r.Method(http.MethodGet, path, module)
		r.Method(http.MethodHead, path, module)
	}
	if g.cfg.Demo {
		r.Handle("/*", web.Demo(g.cfg.DemoKey))
	}
	return r
}

// Ready is closed once Run hears disconnects. No client should be admitted before.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// Connections is the number of connections of the user, here.
func (g *Gateway) Connections(user string) int { return g.hub.count(streams.CursorID{User: user}) }
