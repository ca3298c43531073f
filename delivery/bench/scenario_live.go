package bench

import "context"

// live measures delivery at full speed. Acknowledgements are measured separately, because the floors have none, and
// because the first ones of each connection make the gateway commit the user's position.
func live(ctx context.Context, b *bench) error {
	l := load{users: b.scaled(1000), messages: b.scaled(100_000)}
	stream, sockets, err := b.floors(ctx, l)
	if err != nil {
		return err
	}
	few, err := b.tidings(ctx, l)
	if err != nil {
		return err
	}
	l.acks = ackLikeLibrary
	acknowledged, err := b.tidings(ctx, l)
	if err != nil {
		return err
	}
	l.users, l.acks = b.scaled(5000), ackOnLeaving
	many, err := b.tidings(ctx, l)
	if err != nil {
		return err
	}
	wide, err := b.socketFloor(ctx, l)
	if err != nil {
		return err
	}
	cpu, cpuWide := stream.cpu+sockets.cpu, stream.cpu+wide.cpu
	speed, speedWide := inTurn(stream, sockets), inTurn(stream, wide)
	some, more := comma(b.scaled(1000))+" users", comma(b.scaled(5000))+" users"
	b.add(Figure{Name: "floor: CPU for 100,000 stored and read once", Unit: "s", Value: stream.cpu})
	b.add(Figure{Name: "floor: CPU for 100,000 frames written", Unit: "s", Value: sockets.cpu})
	b.add(Figure{Name: "server CPU for 100,000 to " + some, Unit: "s", Value: few.cpu, Floor: cpu, Target: maxOfFloor(1.2)})
	b.add(Figure{Name: "server CPU for 100,000 to " + some + ", acknowledged", Unit: "s", Value: acknowledged.cpu, Floor: cpu})
	b.add(Figure{Name: "server CPU for 100,000 to " + more, Unit: "s", Value: many.cpu, Floor: cpuWide})
	b.add(Figure{Name: "delivered to " + some, Unit: "/s", Value: few.perSecond, Floor: speed})
	b.add(Figure{Name: "delivered to " + some + ", acknowledged", Unit: "/s", Value: acknowledged.perSecond, Floor: speed})
	b.add(Figure{Name: "delivered to " + more, Unit: "/s", Value: many.perSecond, Floor: speedWide})
	b.add(Figure{Name: "rate with " + more + " against " + some, Unit: "×", Value: many.perSecond / few.perSecond, Target: minTarget(0.95)})
	return nil
}

// inTurn returns the rate at which the two would process messages one after the other.
func inTurn(a, b outcome) float64 { return 1 / (1/a.perSecond + 1/b.perSecond) }

// rate measures the latency from the publish until a client has read the frame, at a moderate rate. As in live,
// acknowledgements are measured separately.
func rate(ctx context.Context, b *bench) error {
	const perSecond, seconds = 2000, 10
	users := b.scaled(1000)
	l := load{users: users, messages: max(users, b.scaled(perSecond*seconds)), perSecond: perSecond}
	stream, sockets, err := b.floors(ctx, l)
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		acks   acks
		name   string
		target *Target
	}{{ackOnLeaving, "", maxOfFloor(1)}, {ackLikeLibrary, ", acknowledged", nil}} {
		l.acks = kind.acks
		o, err := b.tidings(ctx, l)
		if err != nil {
			return err
		}
		ms := func(name string, of func(quantiles) float64, target *Target) {
			floor := of(stream.latency) + of(sockets.latency)
			b.add(Figure{Name: "latency at 2,000/s, " + name + kind.name, Unit: "ms", Value: of(o.latency), Floor: floor, Target: target})
		}
		ms("p50", func(q quantiles) float64 { return q.P50 }, nil)
		ms("p99", func(q quantiles) float64 { return q.P99 }, kind.target)
		ms("p99.9", func(q quantiles) float64 { return q.P999 }, nil)
		b.add(Figure{Name: "server CPU for 100,000 at 2,000/s" + kind.name, Unit: "s", Value: o.cpu, Floor: stream.cpu + sockets.cpu})
	}
	return nil
}

// topic measures messages that are stored once and delivered to all users.
func topic(ctx context.Context, b *bench) error {
	users, rounds := b.scaled(1000), 11
	floor, err := b.fanOutFloor(ctx, users, rounds)
	if err != nil {
		return err
	}
	s, err := b.open(ctx, users, Needs{})
	if err != nil {
		return err
	}
	defer s.close()
	b.step("connecting %s users", comma(users))
	s.fleet.timed = true
	if _, err := s.fleet.connect(ctx, fewAtOnce); err != nil {
		return err
	}
	b.step("%d messages to %s connections each", rounds, comma(users))
	took, err := b.fanOut(ctx, s.fleet, rounds, func() error { return s.topic.send(ctx, s.nc, 1, 0) })
	if err != nil {
		return err
	}
	b.tally(s.fleet, rounds)
	b.add(Figure{Name: "topic message until all " + comma(users) + " have it", Unit: "ms", Value: took, Floor: floor, Target: maxTarget(16)})
	return nil
}

func (b *bench) fanOutFloor(ctx context.Context, users, rounds int) (float64, error) {
	b.step("socket floor: %d frames to %s connections each", rounds, comma(users))
	s, err := b.openSockets(ctx, users)
	if err != nil {
		return 0, err
	}
	defer s.close()
	return b.fanOut(ctx, s.fleet, rounds, func() error { return s.write(ctx, 1, 0, true) })
}

// fanOut sends one message to all clients in each round. It returns the median time in milliseconds until the last
// client has the message. The fleet has left when it returns.
func (b *bench) fanOut(ctx context.Context, f *fleet, rounds int, send func() error) (float64, error) {
	for i := range rounds {
		if err := b.calm(ctx); err != nil {
			return 0, err
		}
		if err := send(); err != nil {
			return 0, err
		}
		if _, err := f.await(ctx, i+1); err != nil {
			return 0, err
		}
	}
	f.leave()
	var slowest latencies
	for i := range rounds {
		slowest = append(slowest, 0)
		for _, c := range f.clients {
			if i < len(c.latencies) { // otherwise it is lost
				slowest[i] = max(slowest[i], c.latencies[i])
			}
		}
	}
	return slowest.perMille(500), nil
}
