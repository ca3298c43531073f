package bench

import (
	"context"
	"time"
)

// connect measures how fast users connect, the first time, which creates their durables, and again, and how much memory
// an idle connection takes.
func connect(ctx context.Context, b *bench) error {
	s, err := b.open(ctx, b.scaled(5000), Needs{})
	if err != nil {
		return err
	}
	defer s.close()
	n := float64(len(s.users))
	for _, c := range []struct {
		name   string
		target float64
	}{{"first connects", 1200}, {"connects of known users", 6000}} {
		if err := b.calm(ctx); err != nil {
			return err
		}
		b.step("%s %s", comma(len(s.users)), c.name)
		spent := spending(s.PIDs)
		took, err := s.fleet.connect(ctx, fewAtOnce)
		if err != nil {
			return err
		}
		cpu := spent()
		s.fleet.leave()
		b.add(Figure{Name: c.name, Unit: "/s", Value: n / took.Seconds(), Target: minTarget(c.target)})
		b.add(Figure{Name: "server CPU for 1,000 " + c.name, Unit: "s", Value: cpu / n * 1000})
	}
	b.tally(s.fleet, 0)
	held, err := s.idle(ctx)
	if err != nil {
		return err
	}
	figure := Figure{Name: "resident memory of a connection, idle for " + b.cfg.Idle.String(), Unit: "KiB", Value: held}
	if b.cfg.Idle >= time.Minute {
		figure.Target = maxTarget(16)
	}
	b.add(figure)
	return nil
}

// idle returns the memory in KiB that a gateway uses per connected, idle user. If possible, it starts a new gateway
// with the same NATS server for that, because free heap memory of a gateway that has served before would hide part of
// the use.
func (s *site) idle(ctx context.Context) (float64, error) {
	server := s.Server
	if s.Beside != nil {
		s.b.step("starting a second gateway")
		beside, err := s.Beside(ctx)
		if err != nil {
			return 0, err
		}
		defer beside.Stop()
		server = beside
	} else {
		s.b.note("memory per connection is too low, because the gateway has served connections before")
	}
	if err := s.b.calm(ctx); err != nil {
		return 0, err
	}
	before := residentKiB(server.PIDs)
	f := newFleet(server.URL, s.id, s.users)
	defer f.leave()
	if _, err := f.connect(ctx, fewAtOnce); err != nil {
		return 0, err
	}
	s.b.step("%s users are idle for %s", comma(len(s.users)), s.b.cfg.Idle)
	if err := pause(ctx, s.b.cfg.Idle); err != nil {
		return 0, err
	}
	select {
	case err := <-f.cutOff:
		return 0, err
	default:
	}
	return (residentKiB(server.PIDs) - before) / float64(len(s.users)), nil
}
