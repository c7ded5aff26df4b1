package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func (w *world) counts(f warpket.Function) map[int]int64 {
	w.t.Helper()
	c, err := w.ExecutionCounts(w.t.Context(), f.ProjectID, f.ID)
	w.must(err)
	return c[f.ID]
}

// countExecutions counts all that there is to count.
func (w *world) countExecutions() {
	w.t.Helper()
	for more := true; more; {
		var err error
		more, err = w.CountExecutions(w.t.Context())
		w.must(err)
	}
}

// executionAt is an execution whose ID is as old.
func executionAt(f warpket.Function, v warpket.Version, age time.Duration, lane warpket.Lane) warpket.Execution {
	e := newExecution(f, v)
	e.ID, e.Lane = warpket.NewID(time.Now().Add(-age)), lane
	return e
}

func TestExecutionsAreCountedOnceHoweverOldTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	other, otherVersion := w.addFunction(w.project, "other")
	add := func(e warpket.Execution) {
		t.Helper()
		for i := range 2 { // again does nothing
			created, err := w.CreateExecution(t.Context(), e)
			if err != nil || created != (i == 0) {
				t.Fatalf("created %v (%v)", created, err)
			}
		}
	}
	want := int64(0)
	for _, lane := range []warpket.Lane{warpket.Durable, warpket.Express} {
		add(executionAt(f, v, 0, lane))
		add(executionAt(f, v, 10*time.Minute, lane))
		want += 2
	}
	draft := w.draftOf(f).Version()
	add(executionAt(f, draft, 10*time.Minute, warpket.Durable))
	add(executionAt(other, otherVersion, 10*time.Minute, warpket.Durable))
	check := func() {
		t.Helper()
		if diff := cmp.Diff(map[int]int64{0: 1, 1: want}, w.counts(f)); diff != "" {
			t.Error(diff)
		}
	}
	check()
	race(4, func(int) { w.countExecutions() })
	check()
	if n := w.count(`select sum(count) from execution_counts`); n != 4 {
		t.Errorf("%d are kept, want those that are old", n)
	}

	// What comes late for being counted, such as a request that is repeated.
	for _, lane := range []warpket.Lane{warpket.Durable, warpket.Express} {
		add(executionAt(f, v, 10*time.Minute, lane))
		add(executionAt(f, v, 30*time.Second, lane))
		want += 2
	}
	check()
	w.countExecutions()
	check()
	if n := w.count(`select count(*) from outbox where kind = 'execute'`); n != 6 {
		t.Errorf("%d workflows are promised, want one for each durable execution", n)
	}

	w.exec(`delete from executions where id < $1`, warpket.FirstIDAt(time.Now().Add(-5*time.Minute))) // as retention does
	check()
	_, err := w.DeleteFunction(t.Context(), w.project, f.ID, true)
	w.must(err)
	w.countExecutions()
	if n := w.count(`select count(*) from execution_counts where function_id = $1`, f.ID); n != 0 {
		t.Error("the counts of a deleted function stay")
	}
	all, err := w.ExecutionCounts(t.Context(), w.project, other.ID, f.ID)
	w.must(err)
	if diff := cmp.Diff(map[warpket.ID]map[int]int64{other.ID: {1: 1}}, all); diff != "" {
		t.Error(diff)
	}
}

func TestWhoIsLateAndWhoCountsTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	race(24, func(i int) {
		if i%4 == 0 {
			w.countExecutions()
			return
		}
		if _, err := w.CreateExecution(t.Context(), executionAt(f, v, time.Duration(i)*time.Minute, warpket.Express)); err != nil {
			t.Error(err)
		}
	})
	w.countExecutions()
	if diff := cmp.Diff(map[int]int64{1: 18}, w.counts(f)); diff != "" {
		t.Error(diff)
	}
}
