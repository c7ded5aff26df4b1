package warpket_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/warpket/warpket"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestExecutionAdvances(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to warpket.Status
		want     warpket.Kind // "" means allowed
	}{
		"a queued execution starts":                  {warpket.Queued, warpket.Running, ""},
		"a queued execution is cancelled":            {warpket.Queued, warpket.Cancelled, ""},
		"a queued execution fails without a runtime": {warpket.Queued, warpket.Failed, ""},
		"an execution cannot skip running":           {warpket.Queued, warpket.Succeeded, warpket.Conflict},
		"what has not started cannot be lost":        {warpket.Queued, warpket.Lost, warpket.Conflict},
		"what has not started cannot time out":       {warpket.Queued, warpket.TimedOut, warpket.Conflict},
		"a refused one goes back to the queue":       {warpket.Running, warpket.Queued, ""},
		"a running execution succeeds":               {warpket.Running, warpket.Succeeded, ""},
		"a running execution fails":                  {warpket.Running, warpket.Failed, ""},
		"a running execution is cancelled":           {warpket.Running, warpket.Cancelled, ""},
		"a running execution times out":              {warpket.Running, warpket.TimedOut, ""},
		"a running execution is lost":                {warpket.Running, warpket.Lost, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := warpket.Execution{Status: test.from}
			wantKind(t, e.Advance(test.to, noon), test.want)
			want := test.to
			if test.want != "" {
				want = test.from
			}
			if e.Status != want {
				t.Errorf("it is %s, want %s", e.Status, want)
			}
		})
	}
}

func TestAFinalExecutionNeverChanges(t *testing.T) {
	t.Parallel()
	for _, from := range warpket.Statuses {
		for _, to := range warpket.Statuses {
			e := warpket.Execution{Status: from}
			err := e.Advance(to, noon)
			if from.Final() && from != to {
				wantKind(t, err, warpket.Conflict)
			}
			if from == to && (err != nil || e.FinishedDate != nil || e.StartedDate != nil) {
				t.Errorf("repeating %s changed %+v (%v)", from, e, err)
			}
		}
	}
}

func TestAdvanceKeepsTheDates(t *testing.T) {
	t.Parallel()
	e := warpket.Execution{Status: warpket.Queued}
	steps := []struct {
		to                warpket.Status
		started, finished bool
	}{
		{warpket.Running, true, false},
		{warpket.Queued, false, false},
		{warpket.Running, true, false},
		{warpket.Succeeded, true, true},
	}
	for _, step := range steps {
		wantKind(t, e.Advance(step.to, noon), "")
		if (e.StartedDate != nil) != step.started || (e.FinishedDate != nil) != step.finished {
			t.Errorf("%s: started %v, finished %v", step.to, e.StartedDate, e.FinishedDate)
		}
	}
}

func TestTheStatusOfAFailureFollowsFromItsCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[warpket.FailureCode]warpket.Status{
		warpket.Raised:        warpket.Failed,
		warpket.Crashed:       warpket.Failed,
		warpket.NoRuntime:     warpket.Failed,
		warpket.TimedOutCode:  warpket.TimedOut,
		warpket.CancelledCode: warpket.Cancelled,
		warpket.LostCode:      warpket.Lost,
	} {
		o := warpket.FailedWith(code, "because", "trace")
		if o.Status != want || o.Failure.Code != code || !o.Status.Final() {
			t.Errorf("%s gives %+v, want %s", code, o, want)
		}
	}
}

func TestEveryFailureCodeIsListed(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("execution.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\s+\w+\s+FailureCode = "(\w+)"`).FindAllSubmatch(source, -1)
	if len(declared) != len(warpket.FailureCodes) {
		t.Errorf("%d codes are declared and %d listed", len(declared), len(warpket.FailureCodes))
	}
	for _, code := range declared {
		if !slices.Contains(warpket.FailureCodes, warpket.FailureCode(code[1])) {
			t.Errorf("%s is not listed", code[1])
		}
	}
}

func TestWhenAQueuedExecutionStarts(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	room := func(position int, held ...time.Duration) *warpket.Waiting {
		w := &warpket.Waiting{Position: position, Reason: "room"}
		w.Expect(held, now)
		return w
	}
	tests := map[string]struct {
		before, slots int
		took          time.Duration
		room          *warpket.Waiting
		position      int
		after         time.Duration // 0: nobody knows
	}{
		"next in one slot":                         {0, 1, time.Minute, nil, 1, time.Minute},
		"third in two slots":                       {2, 2, time.Minute, nil, 3, 90 * time.Second},
		"too few runs tell":                        {2, 2, 0, nil, 3, 0},
		"without a slot and without news":          {2, 0, time.Minute, nil, 3, 0},
		"for room that nobody gives back":          {0, 0, time.Minute, room(1), 1, 0},
		"for the room of one slot":                 {0, 0, 0, room(1, 10*time.Minute), 1, 10 * time.Minute},
		"for that of several":                      {0, 0, 0, room(1, 10*time.Minute, 20*time.Minute, 30*time.Minute), 1, 20 * time.Minute / 3},
		"behind others":                            {0, 0, 0, room(6, 10*time.Minute, 20*time.Minute, 30*time.Minute), 6, 40 * time.Minute},
		"behind its own, too":                      {3, 0, time.Minute, room(2, 10*time.Minute), 5, 23 * time.Minute},
		"behind its own of which nobody knows":     {3, 0, 0, room(2, 10*time.Minute), 5, 0},
		"with a clock that is behind the database": {0, 0, 0, room(1, -time.Minute, 2*time.Minute), 1, 30 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e warpket.Execution
			w := e.Waits(tt.before, tt.slots, tt.took, tt.room, now)
			want := time.Time{}
			if tt.after > 0 {
				want = now.Add(tt.after)
			}
			if w.Position != tt.position || !w.StartDate.Equal(want) {
				t.Errorf("it is at %d and starts at %s, not %s", w.Position, w.StartDate, want)
			}
		})
	}
}
