package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcHeadroom is the minimum number of bytes to allocate between two runs of the garbage collector. By default Go runs it when the live
	// heap has doubled. With a small heap that is so often that it takes a seventh of the CPU and delays messages.
	gcHeadroom = 256 << 20

	maxGCPercent = 400
)

// tuneGC adjusts GOGC once a second until ctx is done, so that the garbage collector runs when the heap has grown by its live size, or by
// gcHeadroom if that is more. If GOGC is set in the environment, it does nothing.
func tuneGC(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for set := 100; ; {
		metrics.Read(used)
		if percent := gcPercent(used[0].Value.Uint64()); percent != set {
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

// gcPercent returns GOGC for a live heap of so many bytes. It is rounded to steps, since each change stops the world for a moment.
func gcPercent(used uint64) int {
	const step = 25
	percent := maxGCPercent
	if used > 0 {
		percent = int(min(maxGCPercent, 100*gcHeadroom/used))
	}
	return max(100, percent/step*step)
}
