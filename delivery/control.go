package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/delivery/wire/strict"
	"github.com/tidings-io/tidings/streams"
)

// Subjects of what gateways are told.
const (
	DisconnectSubject = "tidings.disconnect"
	ackedPrefix       = "tidings.acked." // a user follows, encoded
)

const subscribeWithin = time.Second

// gatherFor is how long Disconnect waits for one more gateway to answer.
const gatherFor = 300 * time.Millisecond

type disconnectRequest struct {
	User   string  `json:"user"`
	Device *string `json:"device,omitempty"` // absent: all
	Reason string  `json:"reason,omitempty"`
}

type disconnectReply struct {
	Closed int `json:"closed"`
}

// ackedNote tells gateways that a cursor has moved. It is published by gateways only, and never moves one.
type ackedNote struct {
	Device string `json:"device"`
	Seq    uint64 `json:"seq"`
	Unread uint64 `json:"unread"`
	Epoch  string `json:"epoch"`
}

// Run answers what backends and other gateways say over NATS, as a NATS micro service, until ctx is done. Every gateway hears
// everything: there is no queue group. It is called once.
func (g *Gateway) Run(ctx context.Context) error {
	service, err := micro.AddService(g.cfg.NATS, micro.Config{
		Name: "tidings-gateway", Version: g.cfg.Version, Description: "Tidings gateway: delivers notifications to users",
		QueueGroupDisabled: true,
	})
	if err != nil {
		return fmt.Errorf("register the gateway as a NATS service: %w", err)
	}
	defer func() { _ = service.Stop() }()
	err = service.AddEndpoint("disconnect", micro.HandlerFunc(g.onDisconnect), micro.WithEndpointSubject(DisconnectSubject))
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", DisconnectSubject, err)
	}
	sub, err := g.cfg.NATS.Subscribe(ackedPrefix+"*", g.onAcked)
	if err != nil {
		return fmt.Errorf("subscribe to %s*: %w", ackedPrefix, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for g.cfg.NATS.FlushTimeout(subscribeWithin) != nil { // NATS is away
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(subscribeWithin / 10):
		}
	}
	close(g.ready)
	g.tidy(ctx)
	return nil
}

func (g *Gateway) onDisconnect(req micro.Request) {
	var d disconnectRequest
	if json.Unmarshal(req.Data(), &d) != nil || strict.Names(req.Data(), "user", "device", "reason") != nil || d.User == "" {
		_ = req.Error("400", `send {"user":"…"}, with "device" and "reason" if you like`, nil)
		return
	}
	closed := g.hub.disconnect(disconnect{user: d.User, device: d.Device, reason: d.Reason})
	g.log.Info().Str("user", d.User).Str("reason", d.Reason).Int("closed", closed).Msg("disconnected by the backend")
	_ = req.RespondJSON(disconnectReply{Closed: closed})
}

func (d disconnect) closing() *closing {
	reason := d.reason
	if reason == "" {
		reason = "disconnected by the backend"
	}
	return &closing{code: wire.CloseDisconnected, reason: reason}
}

// Committed tells all gateways, this one too, that a cursor has moved. It is for streams.CursorsConfig.
func Committed(nc *nats.Conn) func(streams.CursorState) {
	return func(st streams.CursorState) {
		token, err := streams.EncodeToken(st.User)
		if err != nil {
			return
		}
		note, _ := json.Marshal(ackedNote{Device: st.Device, Seq: st.Seq, Unread: st.Unread, Epoch: st.Epoch})
		_ = nc.Publish(ackedPrefix+token, note) // only a hint to other connections
	}
}

func (g *Gateway) onAcked(msg *nats.Msg) {
	user, err := streams.DecodeToken(msg.Subject[len(ackedPrefix):])
	var note ackedNote
	if err != nil || json.Unmarshal(msg.Data, &note) != nil {
		return
	}
	id := streams.CursorID{User: user, Device: note.Device}
	g.hub.each(id, note.Epoch, func(s *session) { s.tellAcked(note.Seq, note.Unread) })
}

// Disconnect asks every gateway to close a user's connections; device nil means all. It returns how many were closed and how
// many gateways answered, after 300 ms of silence.
func Disconnect(ctx context.Context, nc *nats.Conn, user string, device *string, reason string) (closed, gateways int, err error) {
	if _, err := streams.EncodeToken(user); err != nil {
		return 0, 0, err
	}
	if device != nil {
		if err := checkDevice(*device); err != nil {
			return 0, 0, err
		}
	}
	request, _ := json.Marshal(disconnectRequest{User: user, Device: device, Reason: reason})
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(DisconnectSubject, inbox, request); err != nil {
		return 0, 0, err
	}
	for {
		wait, cancel := context.WithTimeout(ctx, gatherFor)
		msg, err := sub.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			if ctx.Err() != nil || wait.Err() == nil && !errors.Is(err, nats.ErrNoResponders) {
				return closed, gateways, fmt.Errorf("disconnect %s: %w", user, err)
			}
			return closed, gateways, nil
		}
		var reply disconnectReply
		if json.Unmarshal(msg.Data, &reply) == nil {
			closed += reply.Closed
			gateways++
		}
	}
}
