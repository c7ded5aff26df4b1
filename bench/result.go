package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// result is a case of the page. Times are in milliseconds.
type result struct {
	Function    string  `json:"function"`
	Outstanding int     `json:"outstanding"`
	Peer        string  `json:"peer"`
	Calls       int     `json:"calls"`
	P50         float64 `json:"p50Ms"`
	P99         float64 `json:"p99Ms"`
	Handler     float64 `json:"handlerP50Ms"`
	OverheadP50 float64 `json:"overheadP50Ms"`
	OverheadP99 float64 `json:"overheadP99Ms"`
	PerSecond   float64 `json:"perSecond"`
	ToProcess   float64 `json:"overheadToProcess,omitempty"` // ratio of p50s in this run
	ToWarpket   float64 `json:"overheadToWarpket,omitempty"`
	NoiseBefore float64 `json:"noiseBefore"` // shares of the processors that others used
	NoiseDuring float64 `json:"noiseDuring"`

	// Phases are the p50s of where the product says that the time went.
	Phases map[string]float64 `json:"phasesP50Ms,omitempty"`

	Error string    `json:"error,omitempty"`
	At    time.Time `json:"at"`
}

// fill computes what is shown of an outcome.
func (r *result) fill(o outcome) {
	var total, ran, overhead []float64
	phases := map[string][]float64{}
	for _, c := range o.calls {
		total = append(total, c.Total)
		ran = append(ran, c.Ran)
		overhead = append(overhead, c.Total-c.Ran)
		rest := c.Total
		for name, v := range c.Phases {
			phases[name] = append(phases[name], v)
			rest -= v
		}
		if c.Phases != nil {
			phases["rest"] = append(phases["rest"], rest)
		}
	}
	r.At = time.Now().UTC().Truncate(time.Second)
	r.Calls = len(o.calls)
	r.P50, r.P99 = percentile(total, 50), percentile(total, 99)
	r.Handler = percentile(ran, 50)
	r.OverheadP50, r.OverheadP99 = percentile(overhead, 50), percentile(overhead, 99)
	r.PerSecond = round(float64(len(o.calls)) / o.took.Seconds())
	for name, values := range phases {
		if r.Phases == nil {
			r.Phases = map[string]float64{}
		}
		r.Phases[name] = percentile(values, 50)
	}
}

// percentile is the nearest-rank percentile: with fewer than 100 values the
// 99th is the greatest.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return round(sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)])
}

// round keeps three digits after the point.
func round(v float64) float64 { return math.Round(v*1000) / 1000 }

// compare sorts the cases by what they measure, and fills in the ratios
// between those that measure the same.
func compare(cases []result) {
	slices.SortStableFunc(cases, func(a, b result) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Outstanding, b.Outstanding))
	})
	for i := range cases {
		r := &cases[i]
		r.ToProcess = r.ratioTo("process", cases)
		r.ToWarpket = r.ratioTo("warpket", cases)
	}
}

// ratioTo is the case's overhead as a multiple of a peer's; 0 if either is
// not known.
func (r *result) ratioTo(peer string, cases []result) float64 {
	for _, other := range cases {
		if other.Peer == peer && other.Function == r.Function && other.Outstanding == r.Outstanding && other.OverheadP50 > 0 {
			return math.Round(r.OverheadP50/other.OverheadP50*1e4) / 1e4
		}
	}
	return 0
}
