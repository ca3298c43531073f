package delivery_test

import (
	"context"
	"testing"
	"time"
)

// Whoever is in a hurry does not wait for the pace. Those who are then ended together come again at times of their own.
func TestDrainInAHurry(t *testing.T) {
	t.Parallel()
	n := newTown(t, func(c *nodeConfig) { c.delivery.Drain = time.Hour })
	const many = 300 // 3 s, at the pace
	var peers []*peer
	for range many {
		peers = append(peers, n.dial(t))
	}
	hurry := make(chan struct{})
	close(hurry)
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		drained <- n.gateway.Drain(ctx, hurry)
	}()
	late := 0
	for _, p := range peers {
		if p.closed(4512).RetryAfter > 2000 {
			late++
		}
		_ = p.ws.Close()
	}
	if late < many*9/10 {
		t.Errorf("%d of %d were ended together", late, many)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
