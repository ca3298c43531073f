package bench

import (
	"math"
	"slices"
	"time"
)

// latencies are kept whole: a run has some ten thousand, and their percentiles are then exact.
type latencies []time.Duration

// perMille is the nearest rank, in milliseconds: so many of a thousand are not above it. Of none it is NaN. It sorts.
func (l latencies) perMille(n int) float64 {
	if len(l) == 0 {
		return math.NaN()
	}
	slices.Sort(l)
	rank := (n*len(l) + 999) / 1000
	return float64(l[max(1, rank)-1]) / float64(time.Millisecond)
}

// quantiles are what is told of latencies, in milliseconds.
type quantiles struct{ P50, P99, P999 float64 }

func (l latencies) quantiles() quantiles {
	return quantiles{l.perMille(500), l.perMille(990), l.perMille(999)}
}
