package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/auth"
	"github.com/tidings-io/tidings/streams"
)

// site is a Tidings with everything that a scenario needs: a connection for publishing, an authentication responder,
// and users.
type site struct {
	*Server
	b      *bench
	needs  Needs
	nc     *nats.Conn
	detach func()

	mail  // messages to the users
	users []string
	topic mail
	fleet *fleet
}

// open starts a server, or uses the given deployment, and prepares the given number of new users.
func (b *bench) open(ctx context.Context, users int, needs Needs) (*site, error) {
	b.step("starting a server")
	server, err := b.cfg.Start(ctx, needs)
	if err != nil {
		return nil, err
	}
	s := &site{Server: server, b: b, needs: needs, mail: newMail(users)}
	s.users = names(s.id, users)
	subject, err := streams.TopicSubject(b.cfg.Topic)
	if err == nil {
		err = s.attach(ctx)
	}
	if err != nil {
		server.Stop()
		return nil, err
	}
	s.topic = mail{id: s.id, subjects: []string{subject}}
	s.fleet = newFleet(s.URL, s.id, s.users)
	return s, nil
}

func names(id string, users int) []string {
	all := make([]string, users)
	for i := range all {
		all[i] = fmt.Sprintf("bench-%s-%d", id, i)
	}
	return all
}

func newMail(users int) mail {
	m := mail{id: newID()}
	for _, user := range names(m.id, users) {
		subject, _ := streams.UserSubject(user) // letters, digits and dashes are always valid
		m.subjects = append(m.subjects, subject)
	}
	return m
}

// attach connects to the server's NATS and starts the authentication responder, if the config asks for one.
func (s *site) attach(ctx context.Context) (err error) {
	if s.nc, err = s.Connect(); err != nil {
		return err
	}
	s.detach = s.nc.Close
	if !s.b.cfg.Respond {
		return nil
	}
	asked, err := s.Connect() // a separate connection, so that replies do not wait for published messages
	if err != nil {
		s.nc.Close()
		return err
	}
	responder := auth.NewResponder(asked, auth.TokenIsUser(s.b.cfg.Topic), auth.ResponderConfig{Subject: s.b.cfg.AuthSubject})
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var failed error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = responder.Run(runCtx)
	}()
	s.detach = func() {
		cancel()
		<-ended
		asked.Close()
		s.nc.Close()
	}
	select {
	case <-responder.Ready():
		return nil
	case <-ended:
		s.detach()
		return failed
	case <-ctx.Done():
		s.detach()
		return ctx.Err()
	}
}

// state returns the state of the stream.
func (s *site) state(ctx context.Context) (streams.State, error) {
	stream, err := streams.Find(ctx, s.nc, streams.Config{Name: s.b.cfg.Stream})
	if err != nil {
		return streams.State{}, err
	}
	return stream.State(ctx)
}

// commitTakes is slightly more than the time that a gateway needs per position, by its limit of the commit rate.
const commitTakes = 1200 * time.Microsecond

// close disconnects everything and stops the server. From a shared server it removes the users and their messages.
func (s *site) close() {
	s.fleet.leave()
	if s.Shared {
		s.b.step("removing %s users", comma(len(s.users)))
		// Wait until all positions are committed. Otherwise the gateway would retry commits for removed users.
		time.Sleep(quiet + time.Duration(len(s.users))*commitTakes)
		ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
		defer cancel()
		if err := s.forget(ctx); err != nil {
			s.b.note("some users bench-%s-… could not be removed: %v (use tidings users forget --messages USER)", s.id, err)
		}
	}
	s.detach()
	s.Stop()
}

// forget removes the durables and messages of the site's users. It removes them by name, which is faster than
// Users.Forget: that lists all users of the stream for each removed one.
func (s *site) forget(ctx context.Context) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return err
	}
	stream, err := streams.Find(ctx, s.nc, streams.Config{Name: s.b.cfg.Stream})
	if err != nil {
		return err
	}
	handle, err := js.Stream(ctx, stream.Name())
	if err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(16)
	for i, user := range s.users {
		work.Go(func() error {
			name, err := streams.ConsumerName(streams.CursorID{User: user})
			if err == nil {
				err = handle.DeleteConsumer(ctx, name)
			}
			if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return err
			}
			if s.rounds == 0 {
				return nil
			}
			return handle.Purge(ctx, jetstream.WithPurgeSubject(s.subjects[i]))
		})
	}
	for _, seq := range s.topic.stored {
		work.Go(func() error { return handle.DeleteMsg(ctx, seq) })
	}
	return work.Wait()
}
