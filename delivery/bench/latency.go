package bench

import (
	"math"
	"slices"
	"time"
)

// latencies holds each single latency, so that percentiles are exact.
type latencies []time.Duration

// perMille returns the latency in milliseconds below or at which n of a thousand lie (nearest rank), or NaN if there
// are none. It sorts l.
func (l latencies) perMille(n int) float64 {
	if len(l) == 0 {
		return math.NaN()
	}
	slices.Sort(l)
	rank := (n*len(l) + 999) / 1000
	return float64(l[max(1, rank)-1]) / float64(time.Millisecond)
}

// quantiles are percentiles of latencies, in milliseconds.
type quantiles struct{ P50, P99, P999 float64 }

func (l latencies) quantiles() quantiles {
	return quantiles{l.perMille(500), l.perMille(990), l.perMille(999)}
}
