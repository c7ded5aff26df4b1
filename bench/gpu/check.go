package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
)

// program is a template or an example of one, and what makes its result right.
type program struct {
	tag     string
	example string // empty: the template itself
	input   map[string]any
	right   func(result) error
}

// programs are all that run on a GPU. Each says in its result how wrong it is,
// or something that is known beforehand.
var programs = []program{
	{"CUDA", "", nil, exact},
	{"CUDA", "sgemm.cu", map[string]any{"n": 1000}, exact}, // no multiple of its tiles
	{"CUDA", "reduction.cu", nil, exact},
	{"CUDA", "histogram.cu", nil, counted},
	{"CUDA", "pi.cu", nil, aboutPi},
	{"CUDA", "statevector.cu", nil, halves},
	{"CuPy", "", nil, on(within(1e-6))},
	{"Numba-CUDA", "", map[string]any{"n": 1_000_000}, on(exact)},
	{"CUDA-Q", "", map[string]any{"qubits": 20}, entangled("nvidia")},
	{"Qiskit-GPU", "", map[string]any{"qubits": 20}, entangled("GPU")},
}

// result is what the programs say, each a part of it.
type result struct {
	Target        string
	Device        string
	Simulator     string
	WorstError    *float64
	WorstErrorPy  *float64 `json:"worst_error"`
	Error         *float64
	Right         *bool
	N             int64
	Bins          []int64
	Pi            float64
	StandardError float64
	Probabilities map[string]float64
	Counts        map[string]int64
}

// within is for what says how wrong it is: sums of whole numbers and single
// additions are exact, others may be rounded once less often on a GPU.
func within(bound float64) func(result) error {
	return func(r result) error {
		for _, e := range []*float64{r.WorstError, r.WorstErrorPy, r.Error} {
			if e != nil && *e >= 0 && *e <= bound {
				return nil
			} else if e != nil {
				return fmt.Errorf("it is wrong by %g", *e)
			}
		}
		return errors.New("it does not say how wrong it is")
	}
}

var exact = within(0)

func counted(r result) error {
	var sum int64
	for _, n := range r.Bins {
		sum += n
	}
	if r.Right == nil || !*r.Right || len(r.Bins) != 256 || sum != r.N || r.N == 0 {
		return fmt.Errorf("of %d bytes it has counted %d in %d bins", r.N, sum, len(r.Bins))
	}
	return nil
}

// aboutPi holds but for one seed in some hundred million.
func aboutPi(r result) error {
	if !(math.Abs(r.Pi-math.Pi) <= 6*r.StandardError) || !(r.StandardError < 0.01) {
		return fmt.Errorf("pi is %g ± %g", r.Pi, r.StandardError)
	}
	return nil
}

// halves is a state in which all qubits are 0 or all are 1.
func halves(r result) error {
	if len(r.Probabilities) != 2 {
		return fmt.Errorf("its state has the probabilities %v", r.Probabilities)
	}
	for outcome, p := range r.Probabilities {
		if !uniform(outcome) || !(math.Abs(p-0.5) <= 1e-9) {
			return fmt.Errorf("the probability of %s is %g", outcome, p)
		}
	}
	return nil
}

func uniform(outcome string) bool {
	return outcome != "" && strings.Trim(outcome, outcome[:1]) == ""
}

// entangled is halves, by shots, on what calls itself by this name. Six standard
// deviations are let pass.
func entangled(where string) func(result) error {
	return func(r result) error {
		if got := r.Simulator + r.Device; got != where {
			return fmt.Errorf("it ran on %q, not %s", got, where)
		}
		var shots int64
		for outcome, n := range r.Counts {
			shots += n
			if !uniform(outcome) {
				return fmt.Errorf("it has measured %v", r.Counts)
			}
		}
		for _, n := range r.Counts {
			if len(r.Counts) != 2 || math.Abs(float64(n)-float64(shots)/2) > 3*math.Sqrt(float64(shots)) {
				return fmt.Errorf("it has measured %v", r.Counts)
			}
		}
		if shots == 0 {
			return errors.New("it has measured nothing")
		}
		return nil
	}
}

// on is for what also names its card.
func on(right func(result) error) func(result) error {
	return func(r result) error {
		if r.Device == "" || r.Device == "cuda-sim" {
			return fmt.Errorf("it names the device %q", r.Device)
		}
		return right(r)
	}
}

// verdict says what is wrong with a result.
func (p program) verdict(b []byte) error {
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("reading its result: %w", err)
	}
	if r.Target != "gpu" {
		return fmt.Errorf("it says that its target was %q", r.Target)
	}
	return p.right(r)
}

// check runs all programs and prints how each did. One that fails keeps none
// from being tried.
func (c client) check(ctx context.Context, cuda template, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "template\texample\ttook\tresult")
	wrong := 0
	for _, p := range programs {
		from := cuda
		if p.tag != "CUDA" {
			from = template{}
			if err := c.ask(ctx, http.MethodGet, "/v1/templates/"+p.tag, nil, &from); err != nil {
				return err
			}
		}
		start := time.Now()
		b, err := c.execute(ctx, p.tag, from.program(p.example), p.input)
		if err == nil {
			err = p.verdict(b)
		}
		says := "right"
		if err != nil {
			wrong++
			says = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Fprintf(table, "%s\t%s\t%.1f s\t%s\n", p.tag, p.example, time.Since(start).Seconds(), says)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d are not right", wrong, len(programs))
	}
	return nil
}
