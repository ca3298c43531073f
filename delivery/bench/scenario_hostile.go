package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// siege is a load of regular users who receive messages at a fixed rate, before and during an attack.
type siege struct {
	users, others, attackers int // others connect during the attack
	before, during           int // rounds of messages
	perSecond                float64
}

// siegeOutcome is the result of a siege.
type siegeOutcome struct {
	before, during quantiles
	cpu            float64       // CPU seconds of the server per second of the attack
	connected      time.Duration // until the last of the others was live; 0: not all could connect
	crowd          crowdCounts
}

const (
	attackSeconds = 20 // at scale 1
	recoverWithin = 30 * time.Second
)

// hostile measures how attackers affect regular users. The floor is the same attack on ServeSockets.
func hostile(ctx context.Context, b *bench) error {
	if b.cfg.Attackers == nil {
		return fmt.Errorf("%w: attackers cannot be started here", ErrCannot)
	}
	seconds := max(10, int(attackSeconds*min(1, b.cfg.Scale)))
	g := siege{users: b.scaled(1000), others: b.scaled(100), attackers: b.scaled(10_000), before: 10, during: seconds}
	g.perSecond = float64(g.users)
	floor, err := b.siegeFloor(ctx, g)
	if err != nil {
		return err
	}
	// This small tail is full before the attack, so that its memory does not grow during the attack.
	s, err := b.open(ctx, g.users, Needs{Tail: 4, Attacked: true})
	if err != nil {
		return err
	}
	defer s.close()
	b.step("connecting %s users", comma(g.users))
	s.fleet.timed = true
	if _, err := s.fleet.connect(ctx, fewAtOnce); err != nil {
		return err
	}
	send := func(rounds int) error { return s.send(ctx, s.nc, rounds, g.perSecond) }
	var had footprint
	o, err := b.besiege(ctx, g, s.Server, s.fleet, send, func() { had = s.footprint(ctx) })
	if err != nil {
		return err
	}
	has, took, err := b.awaitRecovery(ctx, s.Server, had)
	if err != nil {
		return err
	}
	s.fleet.leave()
	b.tally(s.fleet, g.before+g.during)
	o.before, o.during = g.quantiles(s.fleet)
	b.addSiege(g, o, floor)
	b.addFootprint(had, has, took)
	return nil
}

// siegeFloor runs the siege on ServeSockets, which relays the messages of a publisher.
func (b *bench) siegeFloor(ctx context.Context, g siege) (o siegeOutcome, err error) {
	b.step("socket floor: connecting %s users", comma(g.users))
	s, err := b.openSockets(ctx, g.users)
	if err != nil {
		return o, err
	}
	defer s.close()
	send := func(rounds int) error { return s.relay(ctx, rounds, g.perSecond) }
	o, err = b.besiege(ctx, g, s.server, s.fleet, send, func() {})
	if err != nil {
		return o, err
	}
	s.leave()
	b.tally(s.fleet, g.before+g.during)
	o.before, o.during = g.quantiles(s.fleet)
	return o, nil
}

// besiege publishes messages with send, first without and then during an attack. At the end of the attack, other users
// reconnect. between is called before the attack starts. The attackers have stopped when besiege returns.
func (b *bench) besiege(ctx context.Context, g siege, s *Server, f *fleet, send func(rounds int) error, between func()) (o siegeOutcome, err error) {
	// Connect the other users once before, so that the memory for new users does not count as an effect of the attack.
	id := newID()
	late := newFleet(s.URL, id, names(id, g.others))
	defer late.leave()
	if _, err := late.connect(ctx, fewAtOnce); err != nil {
		return o, err
	}
	late.leave()
	b.step("messages at %g/s to %s users", g.perSecond, comma(g.users))
	if err := send(g.before); err != nil {
		return o, err
	}
	if _, err := f.await(ctx, g.before); err != nil {
		return o, err
	}
	between()
	b.step("connecting %s attackers", comma(g.attackers))
	attackers, err := b.cfg.Attackers(ctx, s.URL, g.attackers)
	if err != nil {
		return o, err
	}
	defer attackers.Stop()
	for o.crowd.Dialed < int64(g.attackers) {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return o, err
		}
		if o.crowd, err = attackers.crowd(ctx); err != nil {
			return o, err
		}
	}
	if o.crowd.Connected == 0 { // not every system has all of 127.0.0.0/8
		return o, fmt.Errorf("%w: this system cannot connect from 127.0.1.1", ErrCannot)
	}
	b.step("messages at %g/s to %s users, with %s attackers", g.perSecond, comma(g.users), comma(g.attackers))
	spent, began := spending(s.PIDs), time.Now()
	if err := send(g.during); err != nil {
		return o, err
	}
	o.cpu = spent() / time.Since(began).Seconds()
	if _, err := f.await(ctx, g.before+g.during); err != nil {
		return o, err
	}
	b.step("reconnecting %s other users, with %s attackers", comma(g.others), comma(g.attackers))
	if o.connected, err = late.connect(ctx, 1); err != nil {
		b.note("not all other users could reconnect during the attack: %v", err)
	}
	o.crowd, err = attackers.crowd(ctx)
	return o, err
}

// crowd asks a ServeAttackers for its counts.
func (s *Server) crowd(ctx context.Context) (c crowdCounts, err error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http"+strings.TrimPrefix(s.URL, "ws")+crowdPath, nil)
	if err != nil {
		return c, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return c, fmt.Errorf("attackers: %w", err)
	}
	defer response.Body.Close()
	return c, json.NewDecoder(response.Body).Decode(&c)
}

// quantiles returns the latencies of the messages before and during the attack. It must be called after leave.
func (g siege) quantiles(f *fleet) (before, during quantiles) {
	var first, rest latencies
	for _, c := range f.clients {
		n := min(g.before, len(c.latencies)) // there are fewer if messages were lost
		first, rest = append(first, c.latencies[:n]...), append(rest, c.latencies[n:]...)
	}
	return first.quantiles(), rest.quantiles()
}

// awaitRecovery waits until the server's footprint is about what it was before the attack. It returns the footprint and
// how long that took.
func (b *bench) awaitRecovery(ctx context.Context, s *Server, before footprint) (now footprint, took time.Duration, err error) {
	b.step("the attack is over: waiting until the server has released its memory")
	if !before.known() { // then recovery cannot be detected
		err := pause(ctx, b.cfg.Idle)
		return s.footprint(ctx), 0, err
	}
	for began := time.Now(); ; {
		now, took = s.footprint(ctx), time.Since(began)
		if now.near(before) || took > recoverWithin {
			return now, took, nil
		}
		if err := pause(ctx, time.Second/2); err != nil {
			return now, took, err
		}
	}
}

func (b *bench) addSiege(g siege, o, floor siegeOutcome) {
	beside := ", beside " + comma(g.attackers) + " hostile connections"
	b.add(Figure{Name: "latency before the attack, p50", Unit: "ms", Value: o.before.P50, Floor: floor.before.P50})
	b.add(Figure{Name: "latency before the attack, p99", Unit: "ms", Value: o.before.P99, Floor: floor.before.P99})
	b.add(Figure{Name: "latency" + beside + ", p50", Unit: "ms", Value: o.during.P50, Floor: floor.during.P50})
	b.add(Figure{Name: "latency" + beside + ", p99", Unit: "ms", Value: o.during.P99, Floor: floor.during.P99, Target: maxOfFloor(1.5)})
	b.add(Figure{Name: "server CPU during the attack", Unit: "s/s", Value: o.cpu, Floor: floor.cpu})
	if o.connected > 0 && floor.connected > 0 {
		each := func(o siegeOutcome) float64 { return o.connected.Seconds() * 1000 / float64(g.others) }
		b.add(Figure{Name: "connect of a known user during the attack", Unit: "ms", Value: each(o), Floor: each(floor)})
	}
	b.add(Figure{Name: "hostile connections open at once, maximum", Unit: "", Value: float64(o.crowd.MaxHeld), Floor: float64(floor.crowd.MaxHeld)})
	b.add(Figure{Name: "hostile connections attempted", Unit: "", Value: float64(o.crowd.Dialed), Floor: float64(floor.crowd.Dialed)})
	b.add(Figure{Name: "hostile connections refused over HTTP", Unit: "", Value: float64(o.crowd.Refused), Floor: float64(floor.crowd.Refused)})
}

// addFootprint adds the footprint after the attack. Its floor is the footprint before the attack.
func (b *bench) addFootprint(before, after footprint, took time.Duration) {
	if after.known() && before.known() {
		const mib = 1 << 20
		b.add(Figure{Name: "goroutines after the attack (floor: before)", Unit: "", Value: after.goroutines, Floor: before.goroutines})
		b.add(Figure{Name: "heap in use after the attack (floor: before)", Unit: "MiB", Value: after.heap / mib, Floor: before.heap / mib})
		b.add(Figure{Name: "stacks in use after the attack (floor: before)", Unit: "MiB", Value: after.stacks / mib, Floor: before.stacks / mib})
		b.add(Figure{Name: "time until these have recovered", Unit: "s", Value: took.Seconds(), Target: maxTarget(recoverWithin.Seconds())})
	} else {
		b.note("goroutines, heap and stacks are unknown: the gateway does not report them")
	}
	b.add(Figure{Name: "resident memory after the attack (floor: before)", Unit: "MiB", Value: after.resident / 1024, Floor: before.resident / 1024})
}
