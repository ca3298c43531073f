package delivery_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/tidings-io/tidings/delivery/wire"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// hears has a user connect, and again where the gateway asks for that. It is an error where nothing was said of a message.
func (n *node) hears(t *testing.T, user string, seq uint64) error {
	for late := time.Now().Add(patience); time.Now().Before(late); {
		p := n.dial(t)
		var frames []wire.Frame
		for told := false; ; {
			f, err := p.next()
			var closed *websocket.CloseError
			if errors.As(err, &closed) && closed.Code == int(wire.CloseUnavailable) {
				break
			}
			if err != nil {
				return err
			}
			frames = append(frames, f)
			switch f := f.(type) {
			case wire.Hello:
				p.send(wire.Auth{Token: user})
			case wire.Gap:
				told = told || f.After < seq && (f.Next == 0 || f.Next > seq)
			case wire.Msg:
				told = told || f.Seq == seq
			case wire.Live:
				_ = p.ws.Close()
				if !told {
					return fmt.Errorf("%s is live without a word of %d: %+v", user, seq, frames)
				}
				return nil
			}
		}
		_ = p.ws.Close()
	}
	return fmt.Errorf("%s is sent away again and again", user)
}

// However close to its end a message is as its user comes: he gets it, or hears that it is gone.
func TestNothingExpiresUntold(t *testing.T) {
	const maxAge = 2 * time.Second
	for name, pinned := range map[string]bool{"oldest": false, "behind an immortal one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTown(t, func(c *nodeConfig) { c.stream.MaxAge = maxAge })
			if pinned {
				n.pin(t)
			}
			var g errgroup.Group
			for i := range streamstest.Either(100, 400) {
				user := fmt.Sprint("u", i)
				p, _ := n.live(t, user)
				n.to(t, user, "1")
				p.send(wire.Ack{Seq: expect[wire.Msg](p).Seq})
				_ = p.ws.Close()
				seq, stored := n.to(t, user, "2"), time.Now()
				g.Go(func() error {
					time.Sleep(time.Until(stored.Add(maxAge + time.Duration(i%40-30)*time.Millisecond)))
					return n.hears(t, user, seq)
				})
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
