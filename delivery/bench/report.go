package bench

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Report is what a run found.
type Report struct {
	Scale   float64    `json:"scale"`
	Runs    int        `json:"runs"`
	Took    float64    `json:"took_seconds"`
	Figures []Figure   `json:"figures"` // medians of the runs
	Faults  Faults     `json:"faults"`
	Details []string   `json:"fault_details,omitempty"`
	Notes   []string   `json:"notes,omitempty"`
	order   []figureID // of first sight
	samples map[figureID][]Figure
}

// Figure is one that was measured.
type Figure struct {
	Scenario string  `json:"scenario"`
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Floor    float64 `json:"floor,omitempty"` // the least that its parts can do, or for a rate the most; 0: there is none
	Ratio    float64 `json:"ratio,omitempty"` // to the floor
	Target   *Target `json:"target,omitempty"`
	Met      *bool   `json:"met,omitempty"` // the target; absent where the scale is not that of the target
}

// Target is what a figure is to reach at scale 1, on two cores.
type Target struct {
	Limit   float64 `json:"limit"`
	Least   bool    `json:"least,omitempty"`    // or at most
	OfFloor bool    `json:"of_floor,omitempty"` // the limit is of the ratio
}

func most(limit float64) *Target        { return &Target{Limit: limit} }
func least(limit float64) *Target       { return &Target{Limit: limit, Least: true} }
func mostOfFloor(limit float64) *Target { return &Target{Limit: limit, OfFloor: true} }
func (t Target) met(f Figure) bool {
	value := f.Value
	if t.OfFloor {
		value = f.Ratio
	}
	if t.Least {
		return value >= t.Limit
	}
	return value <= t.Limit
}

// Faults are what must not be. They are counted over all runs.
type Faults struct {
	Lost       int `json:"lost"`
	Repeated   int `json:"repeated"`     // on one connection
	OutOfOrder int `json:"out_of_order"` // likewise
	Gaps       int `json:"gaps"`         // that clients were told of
}

// Any says whether there are some.
func (f Faults) Any() bool { return f != Faults{} }

func (f Faults) String() string {
	return fmt.Sprintf("%d lost, %d repeated, %d out of order, %d told of a gap", f.Lost, f.Repeated, f.OutOfOrder, f.Gaps)
}

type figureID struct{ scenario, name string }

// add takes a figure of one run. NaN is one that cannot be had here.
func (b *bench) add(f Figure) {
	f.Scenario = b.progress.Scenario
	if math.IsNaN(f.Value) {
		b.remark("The server's CPU and memory are not available: they are read from /proc, of a server of our own or of --pid.")
		return
	}
	if math.IsNaN(f.Floor) {
		f.Floor = 0
	}
	r, id := b.report, figureID{f.Scenario, f.Name}
	if r.samples == nil {
		r.samples = map[figureID][]Figure{}
	}
	if _, known := r.samples[id]; !known {
		r.order = append(r.order, id)
	}
	r.samples[id] = append(r.samples[id], f)
}

// settle makes the medians of what was added.
func (r *Report) settle(took time.Duration) {
	r.Took = took.Seconds()
	for _, id := range r.order {
		all := r.samples[id]
		f := all[0]
		f.Value = median(all, func(f Figure) float64 { return f.Value })
		f.Floor = median(all, func(f Figure) float64 { return f.Floor })
		if f.Floor > 0 {
			f.Ratio = f.Value / f.Floor
		}
		if f.Target != nil && r.Scale == 1 && (!f.Target.OfFloor || f.Floor > 0) {
			met := f.Target.met(f)
			f.Met = &met
		}
		r.Figures = append(r.Figures, f)
	}
}

func median(figures []Figure, of func(Figure) float64) float64 {
	values := make([]float64, len(figures))
	for i, f := range figures {
		values[i] = of(f)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
