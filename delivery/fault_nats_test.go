package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Connections stay while NATS is away, are told nothing that is not so, and miss nothing when it returns.
func TestAnAbsenceOfNATSEndsNobody(t *testing.T) {
	t.Parallel()
	for _, away := range streamstest.Either([]time.Duration{time.Second}, []time.Duration{5 * time.Second, time.Minute}) {
		t.Run(away.String(), func(t *testing.T) {
			t.Parallel()
			server := streamstest.RunProcess(t)
			s := newSiege(t, server.URL())
			s.gateway(t, server.URL())
			s.gateway(t, server.URL())
			users := names("user-", 6)
			for _, user := range users {
				s.client(t, verify.ClientConfig{User: user})
				s.client(t, verify.ClientConfig{Name: user + "'s phone", User: user, Device: "phone", Ack: verify.AckSometimes})
			}
			s.live(t)
			s.publishing(t, 2, 5*time.Millisecond, users, []string{"all"})
			s.goesOn(t, 100)

			server.Kill()
			stranger := &siege{backend: s.backend, log: &verify.Log{}, urls: s.urls}
			stranger.client(t, verify.ClientConfig{User: "late"})
			during(t, away, func() error {
				if now := stranger.log.Stats(); now.Connections > 0 {
					return fmt.Errorf("somebody was admitted while nobody could say who that is: %s", now)
				}
				if now := s.log.Stats(); now.Connections != len(s.guests) || len(now.Closes) > 0 {
					return fmt.Errorf("connections did not stay: %s", now)
				}
				return nil
			})
			server.Restart()
			stranger.live(t)
			s.goesOn(t, 100)
			if end := s.calm(t); end.Connections != len(s.guests) || end.Live != len(s.guests) {
				t.Errorf("connections did not stay: %s", end)
			}
		})
	}
}

// A gateway whose NATS goes away while it reads the stream into memory goes on where it was, and its clients miss nothing.
func TestNATSGoesAwayWhileTheTailWarms(t *testing.T) {
	t.Parallel()
	const messages = 800
	server := streamstest.Run(t)
	s := newSiege(t, server.URL())
	p := s.publisher(t, "p")
	p.Pad = 1000
	open, err := streams.Open(t.Context(), s.nc, streams.Config{MaxMsgsPerSubject: -1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		post(t, p, fmt.Sprint("user-", i%4))
	}
	proxy := streamstest.RunProxy(t, server.URL())
	proxy.Slow(250_000)
	started, cut := make(chan struct{}), make(chan int, 1)
	go func() {
		times := 0
		for range 3 {
			if !s.warming(t.Context(), started) {
				break
			}
			times++
			proxy.Cut()
			proxy.Restore()
			proxy.Slow(250_000)
		}
		proxy.Restore()
		cut <- times
	}()
	s.gateway(t, proxy.URL())
	close(started)
	if times := <-cut; times == 0 {
		t.Error("the gateway was ready before NATS went away")
	}
	for i := range 4 {
		s.client(t, verify.ClientConfig{User: fmt.Sprint("user-", i)})
	}
	s.live(t)
	if end := s.calm(t); end.Messages != messages {
		t.Errorf("%d messages came of %d in %s", end.Messages, messages, open.Name())
	}
}

// warming waits until a Tail has begun to read, and has not finished.
func (b *backend) warming(ctx context.Context, started <-chan struct{}) bool {
	for {
		stream, err := b.js.Stream(ctx, streams.DefaultName)
		if err != nil {
			return false
		}
		for info := range stream.ListConsumers(ctx).Info() {
			if strings.HasPrefix(info.Name, "tidings-") && info.Delivered.Stream > 0 {
				return true
			}
		}
		select {
		case <-started:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}
