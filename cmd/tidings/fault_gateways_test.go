//go:build linux

package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/verify"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Users are connected to all gateways. One gateway is killed, another one is paused for a while.
func TestTwoAndThreeGatewaysOneUser(t *testing.T) {
	streamstest.BesideOthers(t)
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			server := streamstest.RunProcess(t)
			w := newTown(t, server.URL())
			var gateways []*gateway
			var urls []string
			for range n {
				g := runGateway(t, "--nats", server.URL(), "--commit-interval", "50ms", "--max-msgs-per-user", "-1")
				gateways, urls = append(gateways, g), append(urls, g.url())
			}
			// Only the user's first connection acknowledges.
			var anns []*verify.Client
			for i, url := range urls {
				cfg := verify.ClientConfig{User: "ann", Name: fmt.Sprint("ann at ", i+1), URLs: []string{url}, Ack: verify.AckNever}
				if i == 0 {
					cfg.Ack = verify.AckEach
				}
				c, _ := w.client(cfg)
				anns = append(anns, c)
			}
			others, there := many("other", 6), []*verify.Client{}
			for i, user := range others {
				c, _ := w.client(verify.ClientConfig{
					User: user, URLs: []string{urls[i%n], urls[(i+1)%n]}, Ack: verify.AckSometimes, Forget: i%2 == 0,
				})
				there = append(there, c)
			}
			w.live(anns...)
			w.live(there...)
			w.publish(5*time.Millisecond, append(others, "ann"))
			w.publish(9*time.Millisecond, append(others, "ann"))
			w.told(anns)

			last, paused := gateways[n-1], gateways[n-2]
			for range streamstest.Either(1, 5) {
				paused.signal(syscall.SIGSTOP)
				last.kill()
				time.Sleep(time.Duration(streamstest.Either(1, 6)) * time.Second) // the others miss the paused one's heartbeats
				last.start()
				paused.signal(syscall.SIGCONT)
			}
			w.live(anns...)
			w.live(there...)
			w.quiet()
			w.complete()
			// Two gateways that commit at the same instant may leave the lower position. A single one leaves its own.
			w.each([]string{"ann"})
			w.complete()
			w.told(anns)
			w.committed([]string{"ann"}, anns[:1])
			w.passes()
		})
	}
}

// told waits until the user's other connections, at other gateways, were notified of what the first client has acknowledged, or more.
func (w *town) told(clients []*verify.Client) {
	w.t.Helper()
	first := uint64(0)
	streamstest.Eventually(w.t, longer, func() error {
		if first == 0 {
			first, _ = clients[0].Acknowledged()
		}
		if first == 0 {
			return errors.New("nothing was acknowledged yet")
		}
		for i, c := range clients[1:] {
			if _, others := c.Acknowledged(); others < first {
				return fmt.Errorf("connection %d was told of %d, not of %d", i+2, others, first)
			}
		}
		return nil
	})
}
