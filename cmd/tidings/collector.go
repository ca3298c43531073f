package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// collectorRoom is what may be allocated, at least, before the garbage collector runs again: by default that is as much as is in use,
	// and a gateway that holds little runs it often enough for it to be a seventh of the CPU, and for messages to wait behind it.
	collectorRoom = 256 << 20

	mostPercent = 400
)

// giveCollectorRoom has the garbage collector run when as much as is in use was allocated, or collectorRoom if that is more. Who sets GOGC
// decides for himself.
func giveCollectorRoom(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for set := 100; ; {
		metrics.Read(used)
		if percent := collectorPercent(used[0].Value.Uint64()); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// collectorPercent is GOGC for so many bytes in use, in steps, since each change stops the world for a moment.
func collectorPercent(used uint64) int {
	const step = 25
	percent := mostPercent
	if used > 0 {
		percent = int(min(mostPercent, 100*collectorRoom/used))
	}
	return max(100, percent/step*step)
}
