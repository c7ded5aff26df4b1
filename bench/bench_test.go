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
		return call{Ran: 1}, nil
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
	cases := []result{
		{Function: "bell", Outstanding: 1, Peer: "warpket", OverheadP50: 10, Phases: map[string]float64{"queued": 2}},
		{Function: "bell", Outstanding: 8, Peer: "warpket", OverheadP50: 40},
		{Function: "bell", Outstanding: 1, Peer: "process", OverheadP50: 500},
		{Function: "bell", Outstanding: 8, Peer: "process", Error: "it broke"},
	}
	var out bytes.Buffer
	if err := report(&out, cases, file); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.02", "failed, see below", "bell, 8 at once, process: it broke", "queued 2.00", "met with 10.0 ms"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	lines, err := os.ReadFile(file)
	if err != nil || strings.Count(string(lines), "\n") != 4 || !strings.Contains(string(lines), `"overheadToWarpket":50`) {
		t.Errorf("%v: %s", err, lines)
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
