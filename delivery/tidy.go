package delivery

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	tidyEvery = 5 * time.Second
	tidyAfter = 1000 // connections made
)

// tidy gives back to the system, once many have come and no more do, what they needed on their way in: otherwise that is still held for
// the minutes until the collector next runs by itself, and is as much again as they keep. It takes some 50 ms of a core for 5,000.
func (g *Gateway) tidy(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	var since, before int64 // connections made when it was last done, and at the last look
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		made := g.made.Load()
		if made-since >= tidyAfter && made-before < tidyAfter/10 {
			debug.FreeOSMemory()
			since = made
		}
		before = made
	}
}
