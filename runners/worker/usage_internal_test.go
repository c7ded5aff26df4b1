package worker

import (
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

// counted is a sandbox of which only its counters are asked.
type counted struct {
	sandbox.Sandbox
	counters sandbox.Counters
}

func (c counted) Counters() sandbox.Counters { return c.counters }

func TestWhatTheMachineDoesNotCountTheWorkerTells(t *testing.T) {
	t.Parallel()
	before, told := sandbox.Counters{CPU: time.Second}, answer{CPU: int64(3 * time.Second), Peak: 30}
	for _, tt := range []struct {
		before, after sandbox.Counters
		want          warpket.Usage
	}{
		{before, sandbox.Counters{CPU: 2 * time.Second, PeakMemory: 20}, warpket.Usage{CPU: time.Second, PeakMemory: 20}},
		{before, sandbox.Counters{CPU: 2 * time.Second}, warpket.Usage{CPU: time.Second, PeakMemory: 30}},
		{sandbox.Counters{}, sandbox.Counters{PeakMemory: 20}, warpket.Usage{CPU: 3 * time.Second, PeakMemory: 20}},
		{sandbox.Counters{}, sandbox.Counters{}, warpket.Usage{CPU: 3 * time.Second, PeakMemory: 30}},
	} {
		w := &Worker{box: counted{counters: tt.after}}
		if got := w.usage(tt.before, told); got != tt.want {
			t.Errorf("of %+v it is %+v, want %+v", tt.after, got, tt.want)
		}
	}
}
