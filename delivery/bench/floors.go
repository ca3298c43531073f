package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
)

// floors measures a load on both floors.
func (b *bench) floors(ctx context.Context, l load) (stream, sockets outcome, err error) {
	if stream, err = b.streamFloor(ctx, l); err != nil {
		return stream, sockets, err
	}
	sockets, err = b.socketFloor(ctx, l)
	return stream, sockets, err
}

// streamFloor measures a load on ServeStream.
func (b *bench) streamFloor(ctx context.Context, l load) (o outcome, err error) {
	b.step("stream floor: %s", l)
	server, err := b.cfg.StreamFloor(ctx)
	if err != nil {
		return o, err
	}
	defer server.Stop()
	nc, err := server.Connect()
	if err != nil {
		return o, err
	}
	defer nc.Close()
	m := newMail(l.users)
	if err := b.calm(ctx); err != nil {
		return o, err
	}
	spent, began := spending(server.PIDs), time.Now()
	if err := m.send(ctx, nc, l.rounds(), l.perSecond); err != nil {
		return o, err
	}
	for late := time.Now().Add(silence); ; {
		has, err := askCounted(ctx, nc, nil)
		if err != nil {
			return o, err
		}
		if has.Messages >= l.total() {
			break
		}
		if time.Now().After(late) {
			return o, fmt.Errorf("stream floor: only %d of %d messages were read", has.Messages, l.total())
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return o, err
		}
	}
	o = l.outcome(time.Since(began), spent())
	has, err := askCounted(ctx, nc, []byte("latency"))
	o.latency = has.Latency
	return o, err
}

func askCounted(ctx context.Context, nc *nats.Conn, what []byte) (has streamCounts, err error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, floorSubject, what)
	if err != nil {
		return has, fmt.Errorf("stream floor: %w", err)
	}
	return has, json.Unmarshal(answer.Data, &has)
}

// floorSite is a ServeSockets with a fleet connected to it.
type floorSite struct {
	*fleet
	server *Server
	rounds int // number of relayed rounds
}

func (b *bench) openSockets(ctx context.Context, users int) (*floorSite, error) {
	server, err := b.cfg.SocketFloor(ctx)
	if err != nil {
		return nil, err
	}
	id := newID()
	s := &floorSite{fleet: newFleet(server.URL, id, names(id, users)), server: server}
	s.timed = true
	if _, err := s.connect(ctx, users); err != nil {
		s.close()
		return nil, err
	}
	return s, b.calm(ctx)
}

func (s *floorSite) close() {
	s.leave()
	s.server.Stop()
}

// write makes the server write generated messages, and returns when it is done.
func (s *floorSite) write(ctx context.Context, rounds int, perSecond float64, fanout bool) error {
	values := url.Values{"run": {s.id}, "rounds": {strconv.Itoa(rounds)}, "per_second": {fmt.Sprint(perSecond)}}
	if fanout {
		values.Set("fanout", "1")
	}
	address := "http" + strings.TrimPrefix(s.server.URL, "ws") + sendPath + "?" + values.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("socket floor: %s: %s: %w", response.Status, text, err)
	}
	return nil
}

// relay publishes the given number of rounds through the server, each with one message to each user.
func (s *floorSite) relay(ctx context.Context, rounds int, perSecond float64) error {
	ws, _, err := websocket.DefaultDialer.DialContext(ctx, s.server.URL+relayPath, nil)
	if err != nil {
		return fmt.Errorf("socket floor: %w", err)
	}
	defer ws.Close()
	message := newMessage(s.id)
	var data []byte
	began := time.Now()
	for i := range rounds * len(s.clients) {
		pace(began, i, perSecond)
		if err := ctx.Err(); err != nil {
			return err
		}
		data = append(append(data[:0], s.clients[i%len(s.clients)].user...), '\n')
		stamp(message, s.rounds+1+i/len(s.clients), time.Now())
		if err := ws.WriteMessage(websocket.TextMessage, append(data, message...)); err != nil {
			return fmt.Errorf("socket floor: %w", err)
		}
	}
	s.rounds += rounds
	return nil
}

// socketFloor measures a load on ServeSockets.
func (b *bench) socketFloor(ctx context.Context, l load) (o outcome, err error) {
	b.step("socket floor: %s", l)
	s, err := b.openSockets(ctx, l.users)
	if err != nil {
		return o, err
	}
	defer s.close()
	spent, began := spending(s.server.PIDs), time.Now()
	if err := s.write(ctx, l.rounds(), l.perSecond, false); err != nil {
		return o, err
	}
	end, err := s.await(ctx, l.rounds())
	if err != nil {
		return o, err
	}
	o = l.outcome(end.Sub(began), spent())
	s.leave()
	b.tally(s.fleet, l.rounds())
	o.latency = s.all().quantiles()
	return o, nil
}
