package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// siege is good users who have messages at a fixed rate, before and while attackers do what they can.
type siege struct {
	users, others, attackers int
	before, meanwhile        int // rounds of messages
	perSecond                float64
}

// endured is what became of it.
type endured struct {
	before, meanwhile quantiles
	cpu               float64       // seconds of the server's, for each second of the attack
	came              time.Duration // until the last of the others was live; 0: they could not
	crowd             crowded
}

const (
	besiegedFor = 20 // seconds, at scale 1
	backWithin  = 30 * time.Second
)

// hostile is what strangers can do to users. The floor is what the same strangers do to a bare WebSocket server.
func hostile(ctx context.Context, b *bench) error {
	if b.cfg.Attackers == nil {
		return fmt.Errorf("%w: there are no attackers", ErrCannot)
	}
	seconds := max(10, int(besiegedFor*min(1, b.cfg.Scale)))
	g := siege{users: b.scaled(1000), others: b.scaled(100), attackers: b.scaled(10_000), before: 10, meanwhile: seconds}
	g.perSecond = float64(g.users)
	floor, err := b.siegeFloor(ctx, g)
	if err != nil {
		return err
	}
	// With so small a Tail its memory is full before they come, and what it holds is no more then.
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
	has, took, err := b.aftermath(ctx, s.Server, had)
	if err != nil {
		return err
	}
	s.fleet.leave()
	b.tally(s.fleet, g.before+g.meanwhile)
	o.before, o.meanwhile = g.quantiles(s.fleet)
	b.addSiege(g, o, floor)
	b.addFootprint(had, has, took)
	return nil
}

// siegeFloor is the same at a ServeSockets, to which a publisher sends the messages.
func (b *bench) siegeFloor(ctx context.Context, g siege) (o endured, err error) {
	b.step("the sockets' floor: connecting %s users", comma(g.users))
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
	b.tally(s.fleet, g.before+g.meanwhile)
	o.before, o.meanwhile = g.quantiles(s.fleet)
	return o, nil
}

// besiege has send publish so many rounds in peace and then under attack, at the end of which other users come again. Between is called
// before the attackers come; they are gone when it returns.
func (b *bench) besiege(ctx context.Context, g siege, s *Server, f *fleet, send func(rounds int) error, between func()) (o endured, err error) {
	// What a user's first connect leaves at a gateway is not of the attackers' making.
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
	b.step("%s attackers come", comma(g.attackers))
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
		return o, fmt.Errorf("%w: nobody can come from 127.0.1.1 here", ErrCannot)
	}
	b.step("messages at %g/s to %s users, beside %s attackers", g.perSecond, comma(g.users), comma(g.attackers))
	spent, began := spending(s.PIDs), time.Now()
	if err := send(g.meanwhile); err != nil {
		return o, err
	}
	o.cpu = spent() / time.Since(began).Seconds()
	if _, err := f.await(ctx, g.before+g.meanwhile); err != nil {
		return o, err
	}
	b.step("%s other users come again, beside %s attackers", comma(g.others), comma(g.attackers))
	if o.came, err = late.connect(ctx, 1); err != nil {
		b.note("not all others who came again could: %v", err)
	}
	o.crowd, err = attackers.crowd(ctx)
	return o, err
}

// crowd asks attackers how it goes.
func (s *Server) crowd(ctx context.Context) (c crowded, err error) {
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

// quantiles are those of the messages before the attack, and of those in it. The fleet must have left.
func (g siege) quantiles(f *fleet) (before, meanwhile quantiles) {
	var peace, war latencies
	for _, c := range f.clients {
		n := min(g.before, len(c.latencies)) // some may be lost
		peace, war = append(peace, c.latencies[:n]...), append(war, c.latencies[n:]...)
	}
	return peace.quantiles(), war.quantiles()
}

// aftermath waits until a server holds what it did before, and returns what it does and how long that took.
func (b *bench) aftermath(ctx context.Context, s *Server, before footprint) (now footprint, took time.Duration, err error) {
	b.step("they have left: what is left of them")
	if !before.known() { // nor is when it is back
		err := pause(ctx, b.cfg.Idle)
		return s.footprint(ctx), 0, err
	}
	for began := time.Now(); ; {
		now, took = s.footprint(ctx), time.Since(began)
		if now.near(before) || took > backWithin {
			return now, took, nil
		}
		if err := pause(ctx, time.Second/2); err != nil {
			return now, took, err
		}
	}
}

func (b *bench) addSiege(g siege, o, floor endured) {
	beside := ", beside " + comma(g.attackers) + " hostile connections"
	b.add(Figure{Name: "latency in peace, p50", Unit: "ms", Value: o.before.P50, Floor: floor.before.P50})
	b.add(Figure{Name: "latency in peace, p99", Unit: "ms", Value: o.before.P99, Floor: floor.before.P99})
	b.add(Figure{Name: "latency" + beside + ", p50", Unit: "ms", Value: o.meanwhile.P50, Floor: floor.meanwhile.P50})
	b.add(Figure{Name: "latency" + beside + ", p99", Unit: "ms", Value: o.meanwhile.P99, Floor: floor.meanwhile.P99, Target: mostOfFloor(1.5)})
	b.add(Figure{Name: "server CPU meanwhile", Unit: "s/s", Value: o.cpu, Floor: floor.cpu})
	if o.came > 0 && floor.came > 0 {
		each := func(o endured) float64 { return o.came.Seconds() * 1000 / float64(g.others) }
		b.add(Figure{Name: "a known user who comes meanwhile, until live", Unit: "ms", Value: each(o), Floor: each(floor)})
	}
	b.add(Figure{Name: "hostile connections held at once, at most", Unit: "", Value: float64(o.crowd.Most), Floor: float64(floor.crowd.Most)})
	b.add(Figure{Name: "hostile connections that were tried", Unit: "", Value: float64(o.crowd.Dialed), Floor: float64(floor.crowd.Dialed)})
	b.add(Figure{Name: "of these refused over HTTP", Unit: "", Value: float64(o.crowd.Refused), Floor: float64(floor.crowd.Refused)})
}

// addFootprint has what was before in the place of the floor.
func (b *bench) addFootprint(before, after footprint, took time.Duration) {
	if after.known() && before.known() {
		const mib = 1 << 20
		b.add(Figure{Name: "goroutines, when they have left, and before they came", Unit: "", Value: after.goroutines, Floor: before.goroutines})
		b.add(Figure{Name: "heap in use, likewise", Unit: "MiB", Value: after.heap / mib, Floor: before.heap / mib})
		b.add(Figure{Name: "stacks in use, likewise", Unit: "MiB", Value: after.stacks / mib, Floor: before.stacks / mib})
		b.add(Figure{Name: "until these are back", Unit: "s", Value: took.Seconds(), Target: most(backWithin.Seconds())})
	} else {
		b.note("goroutines, heap and stacks are not known: the gateway says nothing of them")
	}
	b.add(Figure{Name: "resident memory, when they have left, and before they came", Unit: "MiB", Value: after.resident / 1024, Floor: before.resident / 1024})
}
