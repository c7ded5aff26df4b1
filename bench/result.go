package main

import (
	"maps"
	"math"
	"slices"
	"time"
)

// result is a case of the page. Times are in milliseconds.
type result struct {
	Question  string  `json:"question"`
	Case      string  `json:"case"`
	Peer      string  `json:"peer"`
	Calls     int     `json:"calls,omitempty"`
	P50       float64 `json:"p50Ms,omitempty"`
	P99       float64 `json:"p99Ms,omitempty"`
	Circuit   float64 `json:"circuitP50Ms,omitempty"` // of the circuit alone
	PerSecond float64 `json:"perSecond,omitempty"`
	ToExpress float64 `json:"toExpress,omitempty"` // p50, or calls in a second, as a multiple of ours in this run

	NoiseBefore float64 `json:"noiseBefore"` // shares of the processors that others used
	NoiseDuring float64 `json:"noiseDuring"`

	// CPU is processor time by program, in milliseconds for each call.
	CPU map[string]float64 `json:"cpuMs,omitempty"`
	// Phases are the p50s of where the product says that the time went.
	Phases map[string]float64 `json:"phasesP50Ms,omitempty"`
	// Memory is in MB.
	Memory map[string]float64 `json:"memoryMB,omitempty"`

	Error string    `json:"error,omitempty"`
	At    time.Time `json:"at"`
}

func (r result) failed(err error) result {
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// fill computes what is shown of an outcome.
func (r *result) fill(o outcome) {
	var total, circuit []float64
	phases := map[string][]float64{}
	for _, c := range o.calls {
		total = append(total, c.Total)
		circuit = append(circuit, c.circuit())
		if c.Phases == nil {
			continue
		}
		rest := c.Total
		for name, v := range c.Phases {
			phases[name] = append(phases[name], v)
			rest -= v
		}
		phases["rest"] = append(phases["rest"], rest)
		phases["worker"] = append(phases["worker"], c.Phases["started"]+c.Phases["ran"]-c.circuit())
		phases["node"] = append(phases["node"], c.Phases["queued"]+c.Phases["placed"]+c.Phases["started"]+c.Phases["ran"])
	}
	r.At = time.Now().UTC().Truncate(time.Second)
	r.Calls = len(o.calls)
	r.P50, r.P99 = percentile(total, 50), percentile(total, 99)
	r.Circuit = percentile(circuit, 50)
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

// total sums the processor time of all programs.
func (r result) total() (sum float64) {
	for v := range maps.Values(r.CPU) {
		sum += v
	}
	return sum
}

// compare fills in the ratios between cases that measure the same.
func compare(results []result) {
	for i := range results {
		r := &results[i]
		than := express
		if r.Question == lists {
			than = plain
		}
		ours := find(results, r.Question, r.Case, than)
		switch {
		case ours == nil || ours.P50 == 0 || ours.Error != "" || r.Error != "":
		case r.Question == throughput:
			r.ToExpress = round(r.PerSecond / ours.PerSecond)
		default:
			r.ToExpress = round(r.P50 / ours.P50)
		}
	}
}

// find gives a case that was measured, nil if it was not.
func find(results []result, question, title, peer string) *result {
	for i := range results {
		if r := &results[i]; r.Question == question && r.Case == title && r.Peer == peer {
			return r
		}
	}
	return nil
}
