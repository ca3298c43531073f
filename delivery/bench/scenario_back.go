package bench

import (
	"context"
	"fmt"

	"github.com/tidings-io/tidings/streams"
)

// storm is a gateway that everybody comes back to, as after a restart of what is in front of it.
func storm(ctx context.Context, b *bench) error {
	s, err := b.open(ctx, b.scaled(1000), Needs{})
	if err != nil {
		return err
	}
	defer s.close()
	took, cpu, err := s.back(ctx, 10)
	if err != nil {
		return err
	}
	n := float64(len(s.users))
	b.add(Figure{Name: comma(len(s.users)) + " users back at once, 10 missed each", Unit: "ms", Value: took * 1000, Target: most(130)})
	b.add(Figure{Name: "users back a second", Unit: "/s", Value: n / took, Target: least(7500)})
	b.add(Figure{Name: "server CPU for 1,000 users back", Unit: "s", Value: cpu / n * 1000})
	return nil
}

// cold is the same, where what was missed is older than what the gateway has in memory.
func cold(ctx context.Context, b *bench) error {
	s, err := b.open(ctx, b.scaled(10_000), Needs{Tail: 1})
	if err != nil {
		return err
	}
	defer s.close()
	took, cpu, err := s.back(ctx, 5)
	if err != nil {
		return err
	}
	n := float64(len(s.users))
	b.add(Figure{Name: comma(len(s.users)) + " users back at once, 5 missed each", Unit: "s", Value: took, Target: most(3)})
	b.add(Figure{Name: "users back a second", Unit: "/s", Value: n / took})
	b.add(Figure{Name: "server CPU for 1,000 users back", Unit: "s", Value: cpu / n * 1000})
	return nil
}

// back has all users come, go, miss so many messages each and come back, as our clients do: with where they were. It returns how
// long it took until the last was live, in seconds, and the server's CPU meanwhile.
func (s *site) back(ctx context.Context, missed int) (took, cpu float64, err error) {
	s.b.step("connecting %s users for the first time", comma(len(s.users)))
	if _, err := s.fleet.connect(ctx, fewAtOnce); err != nil {
		return 0, 0, err
	}
	s.fleet.leave()
	s.b.step("publishing %d messages to each", missed)
	if err := s.send(ctx, s.nc, missed, 0); err != nil {
		return 0, 0, err
	}
	if err := s.pushOut(ctx); err != nil {
		return 0, 0, err
	}
	if err := s.b.calm(ctx); err != nil {
		return 0, 0, err
	}
	s.b.step("%s users come back", comma(len(s.users)))
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

// pushOut fills a Tail that was made small with what nobody reads: more than a MiB of frames.
func (s *site) pushOut(ctx context.Context) error {
	if s.needs.Tail == 0 {
		return nil
	}
	filler := mail{id: s.id}
	for i := range 8 {
		subject, _ := streams.TopicSubject(fmt.Sprintf("bench-%s-%d", s.id, i)) // of letters, digits and dashes
		filler.subjects = append(filler.subjects, subject)
	}
	return filler.send(ctx, s.nc, int(s.needs.Tail)*500, 0)
}

// backlog is one user who was away for long.
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
	if _, err := s.fleet.connect(ctx, 1); err != nil { // for a durable
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
		f.acks, f.resume = ackNever, true // so that the next has them too; one that is told to come again goes on
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
	b.add(Figure{Name: "one user, " + comma(missed) + " missed, from dial to live", Unit: "ms", Value: took.perMille(500), Target: most(30)})
	return nil
}
