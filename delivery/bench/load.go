package bench

import (
	"context"
	"fmt"
	"time"
)

// load is a number of messages to users in turn.
type load struct {
	users, messages int
	perSecond       float64 // 0: at full speed
	acks            acks
}

func (l load) rounds() int { return max(1, l.messages/l.users) }
func (l load) total() int  { return l.rounds() * l.users }

func (l load) String() string {
	speed := "at full speed"
	if l.perSecond > 0 {
		speed = fmt.Sprintf("at %g/s", l.perSecond)
	}
	return fmt.Sprintf("%s messages to %s users %s", comma(l.total()), comma(l.users), speed)
}

// outcome is the result of a load.
type outcome struct {
	perSecond float64 // delivered messages per second
	cpu       float64 // CPU seconds of the server per 100,000 messages
	latency   quantiles
}

func (l load) outcome(took time.Duration, cpu float64) outcome {
	n := float64(l.total())
	return outcome{perSecond: n / took.Seconds(), cpu: cpu / n * 100_000}
}

// tidings measures a load on a Tidings with all users connected.
func (b *bench) tidings(ctx context.Context, l load) (o outcome, err error) {
	s, err := b.open(ctx, l.users, Needs{})
	if err != nil {
		return o, err
	}
	defer s.close()
	b.step("connecting %s users", comma(l.users))
	s.fleet.acks, s.fleet.timed = l.acks, true
	if _, err := s.fleet.connect(ctx, fewAtOnce); err != nil {
		return o, err
	}
	if err := b.calm(ctx); err != nil {
		return o, err
	}
	b.step("%s", l)
	spent, began := spending(s.PIDs), time.Now()
	if err := s.send(ctx, s.nc, l.rounds(), l.perSecond); err != nil {
		return o, err
	}
	end, err := s.fleet.await(ctx, l.rounds())
	if err != nil {
		return o, err
	}
	o = l.outcome(end.Sub(began), spent())
	s.fleet.leave()
	b.tally(s.fleet, l.rounds())
	o.latency = s.fleet.all().quantiles()
	return o, nil
}
