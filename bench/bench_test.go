package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestALoadMakesItsCallsAndNoMore(t *testing.T) {
	t.Parallel()
	var made atomic.Int64
	o, err := drive(t.Context(), load{outstanding: 8, calls: 50, time: time.Minute}, func(context.Context) (call, error) {
		made.Add(1)
		return call{Total: 1}, nil
	})
	if err != nil || len(o.calls) != 50 || made.Load() != 50 || o.took <= 0 {
		t.Errorf("%d calls of 50, %d made, in %s: %v", len(o.calls), made.Load(), o.took, err)
	}
}

func TestALoadEndsInTime(t *testing.T) {
	t.Parallel()
	o, err := drive(t.Context(), load{outstanding: 2, calls: 1 << 30, time: 10 * time.Millisecond}, func(context.Context) (call, error) {
		return call{}, nil
	})
	if err != nil || len(o.calls) == 0 {
		t.Errorf("%d calls: %v", len(o.calls), err)
	}
}

func TestACallThatFailsEndsItsLoad(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := drive(t.Context(), load{outstanding: 2, calls: 1 << 30, time: time.Minute}, func(context.Context) (call, error) {
		return call{}, broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestPercentilesAreOfTheNearestRank(t *testing.T) {
	t.Parallel()
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	tests := map[string]struct {
		values  []float64
		p, want float64
	}{
		"the median":               {hundred, 50, 50},
		"the 99th of a hundred":    {hundred, 99, 99},
		"the 99th of a few":        {[]float64{3, 1, 2}, 99, 3},
		"one value is all of them": {[]float64{7}, 50, 7},
		"there is none":            {nil, 50, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := percentile(test.values, test.p); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAWrongResultIsNoResult(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		function, got string
		right         bool
	}{
		"all shots in two outcomes":  {"bell", `{"counts":{"00":500,"11":524}}`, true},
		"an outcome that cannot be":  {"bell", `{"counts":{"00":500,"11":523,"01":1}}`, false},
		"a text":                     {"bell", `"00"`, false},
		"the event":                  {"echo", `{"message": "hello"}`, true},
		"another event":              {"echo", `{"message": "bye"}`, false},
		"nothing, which is no event": {"echo", ``, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := check(test.function, []byte(test.got)); (err == nil) != test.right {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestThePageComparesWhatIsTheSame(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "page.jsonl")
	results := []result{
		{Question: warm, Case: "bell, back to back", Peer: express, Calls: 9, P50: 2, Phases: map[string]float64{"queued": 0.5, "worker": 3}},
		{Question: warm, Case: "bell, back to back", Peer: "nuclio", Calls: 9, P50: 1},
		{Question: warm, Case: "echo, back to back", Peer: "nuclio", Calls: 9, P50: 1},
		{Question: throughput, Case: "bell, 8 at once", Peer: express, PerSecond: 500, P50: 8, CPU: map[string]float64{"server": 1, "workers": 1.5}},
		{Question: throughput, Case: "bell, 8 at once", Peer: "nuclio", PerSecond: 1000, P50: 4},
		{Question: cold, Case: "bell", Peer: "process", Error: "it broke"},
	}
	var out bytes.Buffer
	if err := report(&out, results, file); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"failed: cold, bell, process: it broke",
		"met    a warm bell, express, ms at p50, at most 2.5: 2.00",
		"MISSED its worker beyond the circuit, ms at p50, at most 1: 3.00\n       where it goes: queued 0.50",
		"MISSED bell, express, 8 outstanding, per second, at least 800: 500.00\n       CPU ms per call: 2.50 server 1.00 workers 1.50",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	lines, err := os.ReadFile(file)
	if err != nil || strings.Count(string(lines), "\n") != 6 || !strings.Contains(string(lines), `"toExpress":0.5`) || !strings.Contains(string(lines), `"toExpress":2`) {
		t.Errorf("%v: %s", err, lines)
	}
}

func TestEveryTargetIsOfACaseThatIsMeasured(t *testing.T) {
	t.Parallel()
	c := config{calls: 1, seconds: time.Second, only: questions}
	measured := map[string]bool{cold + "bell": true, memory + "bell, idle": true, logs + "a line every 30 ms": true, lists + slowestFunctions: true, lists + slowestExecutions: true}
	for _, m := range c.cases(express) {
		measured[m.question+m.title] = true
	}
	for _, target := range targets {
		if !measured[target.question+target.title] {
			t.Errorf("nothing measures %q", target.says)
		}
	}
}

func TestMisdeedsAreAHundred(t *testing.T) {
	t.Parallel()
	sum := 0
	for _, m := range misdeeds {
		if pick(sum).name != m.name || pick(sum+m.weight-1).name != m.name {
			t.Errorf("%q does not weigh what it should", m.name)
		}
		sum += m.weight
	}
	if sum != 100 {
		t.Errorf("they weigh %d", sum)
	}
}

func TestWhatIsLeftIsNamed(t *testing.T) {
	t.Parallel()
	before := census{"mounts": 3, "cgroups": 5}
	if err := (census{"mounts": 3, "cgroups": 4}).moreThan(before); err != nil {
		t.Error(err)
	}
	if err := (census{"mounts": 4, "cgroups": 5}).moreThan(before); err == nil || !strings.Contains(err.Error(), "4 mounts, and were 3") {
		t.Errorf("got %v", err)
	}
}

func TestWhatWeStartIsNotNoise(t *testing.T) {
	t.Parallel()
	before := readUsage()
	busy := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	if err := busy.Run(); err != nil {
		t.Fatal(err)
	}
	if now := readUsage(); now.ours <= before.ours || now.all <= before.all {
		t.Errorf("before %+v, now %+v", before, now)
	}
}

func TestABoundIsThatOfTheMachine(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		target target
		figure float64
		met    bool
	}{
		"a time may be as much longer":     {target{bound: 10}, 20, true},
		"and no longer than that":          {target{bound: 10}, 20.1, false},
		"a rate may be as much less":       {target{bound: 10, least: true}, 5, true},
		"and no less than that":            {target{bound: 10, least: true}, 4.9, false},
		"memory is the same everywhere":    {target{bound: 10, timeless: true}, 10.1, false},
		"and may be as much as it is then": {target{bound: 10, timeless: true}, 10, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.target.met(tt.figure, 2); got != tt.met {
				t.Errorf("%g is met: %v", tt.figure, got)
			}
		})
	}
}
