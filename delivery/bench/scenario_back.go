package bench

import (
	"context"
	"fmt"

	"github.com/tidings-io/tidings/streams"
)

// storm measures how fast all users reconnect at once, as after a restart of a load balancer.
func storm(ctx context.Context, b *bench) error {
	s, err := b.open(ctx, b.scaled(1000), Needs{})
	if err != nil {
		return err
	}
	defer s.close()
	took, cpu, err := s.reconnect(ctx, 10)
	if err != nil {
		return err
	}
	n := float64(len(s.users))
	b.add(Figure{Name: comma(len(s.users)) + " users reconnect at once, 10 missed each", Unit: "ms", Value: took * 1000, Target: maxTarget(130)})
	b.add(Figure{Name: "users reconnected", Unit: "/s", Value: n / took, Target: minTarget(7500)})
	b.add(Figure{Name: "server CPU for 1,000 users to reconnect", Unit: "s", Value: cpu / n * 1000})
	return nil
}

// cold is like storm, but the missed messages are no longer in the memory of the gateway.
func cold(ctx context.Context, b *bench) error {
	s, err := b.open(ctx, b.scaled(10_000), Needs{Tail: 1})
	if err != nil {
		return err
	}
	defer s.close()
	took, cpu, err := s.reconnect(ctx, 5)
	if err != nil {
		return err
	}
	n := float64(len(s.users))
	b.add(Figure{Name: comma(len(s.users)) + " users reconnect at once, 5 missed each", Unit: "s", Value: took, Target: maxTarget(3)})
	b.add(Figure{Name: "users reconnected", Unit: "/s", Value: n / took})
	b.add(Figure{Name: "server CPU for 1,000 users to reconnect", Unit: "s", Value: cpu / n * 1000})
	return nil
}

// reconnect connects and disconnects all users, publishes messages that each of them misses, and connects them again
// with their positions, like package client. It returns the seconds until the last one was live, and the server's CPU
// seconds.
func (s *site) reconnect(ctx context.Context, missed int) (took, cpu float64, err error) {
	s.b.step("connecting %s users for the first time", comma(len(s.users)))
	if _, err := s.fleet.connect(ctx, fewAtOnce); err != nil {
		return 0, 0, err
	}
	s.fleet.leave()
	s.b.step("publishing %d messages to each", missed)
	if err := s.send(ctx, s.nc, missed, 0); err != nil {
		return 0, 0, err
	}
	if err := s.fillTail(ctx); err != nil {
		return 0, 0, err
	}
	if err := s.b.calm(ctx); err != nil {
		return 0, 0, err
	}
	s.b.step("reconnecting %s users", comma(len(s.users)))
	s.fleet.resume = true
	spent := spending(s.PIDs)
	all, err := s.fleet.connect(ctx, len(s.users))
	if err != nil {
		return 0, 0, err
	}
	cpu = spent()
	if _, err := s.fleet.await(ctx, missed); err != nil {
		return 0, 0, err
	}
	s.fleet.leave()
	s.b.tally(s.fleet, missed)
	return all.Seconds(), cpu, nil
}

// fillTail publishes enough messages that no user reads to push everything else out of a small tail.
func (s *site) fillTail(ctx context.Context) error {
	if s.needs.Tail == 0 {
		return nil
	}
	filler := mail{id: s.id}
	for i := range 8 {
		subject, _ := streams.TopicSubject(fmt.Sprintf("bench-%s-%d", s.id, i)) // letters, digits and dashes are always valid
		filler.subjects = append(filler.subjects, subject)
	}
	return filler.send(ctx, s.nc, int(s.needs.Tail)*500, 0)
}

// backlog measures one user who reconnects after a long time.
func backlog(ctx context.Context, b *bench) error {
	missed, dials := b.scaled(10_000), 5
	s, err := b.open(ctx, 1, Needs{MaxMsgsPerUser: int64(2 * missed)})
	if err != nil {
		return err
	}
	defer s.close()
	if st, err := s.state(ctx); err != nil {
		return err
	} else if st.MaxMsgsPerSubject > 0 && st.MaxMsgsPerSubject < int64(missed) {
		return fmt.Errorf("%w: the stream keeps %d messages for each user, not %d", ErrCannot, st.MaxMsgsPerSubject, missed)
	}
	if _, err := s.fleet.connect(ctx, 1); err != nil { // creates the user's durable
		return err
	}
	s.fleet.leave()
	b.step("publishing %s messages to one user", comma(missed))
	if err := s.send(ctx, s.nc, missed, 0); err != nil {
		return err
	}
	var took latencies
	for range dials {
		if err := b.calm(ctx); err != nil {
			return err
		}
		f := newFleet(s.URL, s.id, s.users)
		f.acks, f.resume = ackNever, true // the next fleet must get the messages again; a retry continues at its position
		live, err := f.connect(ctx, 1)
		if err == nil {
			_, err = f.await(ctx, missed)
		}
		f.leave()
		if err != nil {
			return err
		}
		b.tally(f, missed)
		took = append(took, live)
	}
	b.add(Figure{Name: "one user, " + comma(missed) + " missed, from dial to live", Unit: "ms", Value: took.perMille(500), Target: maxTarget(30)})
	return nil
}
