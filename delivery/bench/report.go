package bench

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Report is the result of Run.
type Report struct {
	Scale   float64    `json:"scale"`
	Runs    int        `json:"runs"`
	Took    float64    `json:"took_seconds"`
	Figures []Figure   `json:"figures"` // medians of the runs
	Faults  Faults     `json:"faults"`
	Details []string   `json:"fault_details,omitempty"`
	Notes   []string   `json:"notes,omitempty"`
	order   []figureID // in the order of the first run
	samples map[figureID][]Figure
}

// Figure is a measured value.
type Figure struct {
	Scenario string  `json:"scenario"`
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Floor    float64 `json:"floor,omitempty"` // the best value that its parts alone can reach; 0: none
	Ratio    float64 `json:"ratio,omitempty"` // of the value to the floor
	Target   *Target `json:"target,omitempty"`
	Met      *bool   `json:"met,omitempty"` // whether the target is met; absent if the scale is not 1
}

// Target is the goal for a figure, at scale 1 on two cores.
type Target struct {
	Limit   float64 `json:"limit"`
	Min     bool    `json:"least,omitempty"`    // the limit is a minimum, not a maximum
	OfFloor bool    `json:"of_floor,omitempty"` // the limit applies to the ratio
}

func maxTarget(limit float64) *Target  { return &Target{Limit: limit} }
func minTarget(limit float64) *Target  { return &Target{Limit: limit, Min: true} }
func maxOfFloor(limit float64) *Target { return &Target{Limit: limit, OfFloor: true} }

func (t Target) met(f Figure) bool {
	value := f.Value
	if t.OfFloor {
		value = f.Ratio
	}
	if t.Min {
		return value >= t.Limit
	}
	return value <= t.Limit
}

// Faults counts messages that were not delivered correctly, over all runs.
type Faults struct {
	Lost       int `json:"lost"`
	Repeated   int `json:"repeated"`     // on one connection
	OutOfOrder int `json:"out_of_order"` // on one connection
	Gaps       int `json:"gaps"`         // gap frames
}

// Any reports whether there are faults.
func (f Faults) Any() bool { return f != Faults{} }

func (f Faults) String() string {
	return fmt.Sprintf("%d lost, %d repeated, %d out of order, %d gaps", f.Lost, f.Repeated, f.OutOfOrder, f.Gaps)
}

type figureID struct{ scenario, name string }

// add adds a figure of one run. A figure with the value NaN is not available and is omitted.
func (b *bench) add(f Figure) {
	f.Scenario = b.progress.Scenario
	if math.IsNaN(f.Value) {
		b.remark("CPU and memory of the server are not available: they are read from /proc, for --local or the processes of --pid.")
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

// finish computes the medians of the added figures.
func (r *Report) finish(took time.Duration) {
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
