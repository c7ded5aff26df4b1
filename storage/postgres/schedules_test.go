package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func (w *world) newSchedule(f warpket.Function) warpket.Schedule {
	id := newID()
	next := now().Truncate(time.Minute)
	return warpket.Schedule{
		ID: id, ProjectID: f.ProjectID, FunctionID: f.ID, FunctionName: f.Name, Name: "nightly", Version: 1, Input: []byte(`{"n":1}`), Description: "Created by schedule " + string(id),
		Pattern: "* * * * *", TimeZone: "Europe/Berlin", Count: new(2), Status: warpket.ScheduleRunning, NextTime: &next, CreatedDate: now(), UpdatedDate: now(),
	}
}

func (w *world) addSchedule(f warpket.Function) warpket.Schedule {
	w.t.Helper()
	sc := w.newSchedule(f)
	sc.UpdatedDate = sc.CreatedDate
	w.must(w.CreateSchedule(w.t.Context(), sc))
	return sc
}

func TestAScheduleComesBackAsItWasCreatedWithItsPromise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	sc := w.addSchedule(f)
	w.must(w.CreateSchedule(t.Context(), sc)) // again
	got, err := w.Schedule(t.Context(), w.project, sc.ID)
	w.must(err)
	if diff := cmp.Diff(sc, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if n := w.count(`select count(*) from outbox where kind = 'schedule' and subject_id = $1`, sc.ID); n != 1 {
		t.Errorf("there are %d promises", n)
	}
}

func TestASchedulesFunctionAndVersionAreThereAndItsProjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	other := w.addProject("two")
	foreign := w.newSchedule(f)
	foreign.ProjectID = other
	missing := w.newSchedule(f)
	missing.Version = 7
	for _, sc := range []warpket.Schedule{foreign, missing} {
		if err := w.CreateSchedule(t.Context(), sc); warpket.KindOf(err) != warpket.NotFound {
			t.Errorf("got %v", err)
		}
	}
	sc := w.addSchedule(f)
	change := func(s *warpket.Schedule) error { s.Version = 7; return nil }
	if _, err := w.UpdateSchedule(t.Context(), w.project, sc.ID, now(), change); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("changing it to a version that there is not: %v", err)
	}
	if _, err := w.Schedule(t.Context(), other, sc.ID); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("another project gets it: %v", err)
	}
	if _, err := w.UpdateSchedule(t.Context(), other, sc.ID, now(), func(*warpket.Schedule) error { return nil }); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("another project changes it: %v", err)
	}
	if err := w.DeleteSchedule(t.Context(), other, sc.ID, always[warpket.Schedule]); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("another project deletes it: %v", err)
	}
	if items, _, err := w.Schedules(t.Context(), other, postgres.ScheduleFilter{}, postgres.Page{Limit: 10}); err != nil || len(items) != 0 {
		t.Errorf("another project lists %v, %v", items, err)
	}
}

func TestSchedulesAreFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	g, _ := w.addFunction(w.project, "other")
	first, second := w.addSchedule(f), w.addSchedule(g)
	_, err := w.UpdateSchedule(t.Context(), w.project, second.ID, now(), func(s *warpket.Schedule) error { s.Name = "weekly"; return s.Advance(warpket.SchedulePaused, now()) })
	w.must(err)
	tests := map[string]struct {
		filter postgres.ScheduleFilter
		want   []warpket.ID
	}{
		"all":       {postgres.ScheduleFilter{}, []warpket.ID{second.ID, first.ID}},
		"function":  {postgres.ScheduleFilter{FunctionID: f.ID}, []warpket.ID{first.ID}},
		"status":    {postgres.ScheduleFilter{Status: warpket.SchedulePaused}, []warpket.ID{second.ID}},
		"name":      {postgres.ScheduleFilter{Name: warpket.Condition{Op: warpket.Eq, Values: []string{"nightly"}}}, []warpket.ID{first.ID}},
		"not named": {postgres.ScheduleFilter{Name: warpket.Condition{Op: warpket.Neq, Values: []string{"nightly"}}}, []warpket.ID{second.ID}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			items, next, err := w.Schedules(t.Context(), w.project, tt.filter, postgres.Page{Limit: 10})
			w.must(err)
			var got []warpket.ID
			for _, sc := range items {
				got = append(got, sc.ID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || next != "" {
				t.Error(diff, next)
			}
		})
	}
}

func TestATimeOfAScheduleCreatesOneExecutionHoweverOftenItFires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	sc := w.addSchedule(f)
	at := *sc.NextTime
	var fired counter
	race(10, func(int) {
		e := newExecution(f, v)
		_, ok, err := w.FireSchedule(t.Context(), sc.ID, postgres.Firing{At: at, Execution: &e}, at)
		if err != nil {
			t.Error(err)
		}
		if ok {
			fired.add("fired")
		}
	})
	got, err := w.Schedule(t.Context(), w.project, sc.ID)
	w.must(err)
	if n := w.count(`select count(*) from executions`); fired.n["fired"] != 1 || n != 1 || *got.Count != 1 || !got.LastTime.Equal(at) || !got.NextTime.Equal(at.Add(time.Minute)) {
		t.Errorf("%d fired, %d executions, %+v", fired.n["fired"], n, got)
	}
	e := w.execution(got.LastExecutionID)
	if n := w.count(`select count(*) from outbox where kind = 'execute' and subject_id = $1`, e.ID); n != 1 {
		t.Errorf("there are %d promises", n)
	}
	again := newExecution(f, v)
	got, ok, err := w.FireSchedule(t.Context(), sc.ID, postgres.Firing{At: at.Add(time.Minute), Execution: &again}, at)
	if err != nil || !ok || got.Status != warpket.ScheduleDone {
		t.Errorf("the last one: %v %v %+v", ok, err, got)
	}
	late := newExecution(f, v)
	if _, ok, err := w.FireSchedule(t.Context(), sc.ID, postgres.Firing{At: at.Add(2 * time.Minute), Execution: &late}, at); ok || err != nil {
		t.Errorf("what is done fires: %v", err)
	}
}

func TestAPausedScheduleDoesNotFire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	sc := w.addSchedule(f)
	_, err := w.UpdateSchedule(t.Context(), w.project, sc.ID, now(), func(s *warpket.Schedule) error { return s.Advance(warpket.SchedulePaused, now()) })
	w.must(err)
	e := newExecution(f, v)
	if _, ok, err := w.FireSchedule(t.Context(), sc.ID, postgres.Firing{At: *sc.NextTime, Execution: &e}, now()); ok || err != nil {
		t.Errorf("it fired, or %v", err)
	}
	if n := w.count(`select count(*) from executions`); n != 0 {
		t.Errorf("there are %d executions", n)
	}
}

func TestAScheduleIsMirroredAsItIsAndThePromiseKeptWhenThatSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	sc := w.addSchedule(f)
	away := errors.New("Temporal is away")
	if err := w.MirrorSchedule(t.Context(), sc.ID, func(context.Context, *warpket.Schedule) error { return away }); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	promises := func() int { return w.count(`select count(*) from outbox where kind = 'schedule'`) }
	if promises() != 1 {
		t.Error("the promise is gone, though it was not kept")
	}
	inside, changed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(changed)
		<-inside
		if err := w.DeleteSchedule(context.WithoutCancel(t.Context()), w.project, sc.ID, always[warpket.Schedule]); err != nil {
			t.Error(err)
		}
	}()
	w.must(w.MirrorSchedule(t.Context(), sc.ID, func(_ context.Context, s *warpket.Schedule) error {
		if s == nil || s.ID != sc.ID {
			t.Errorf("mirrored %+v", s)
		}
		close(inside)
		w.until(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`, 1) // the deletion waits for us
		return nil
	}))
	<-changed
	if promises() != 1 {
		t.Error("the deletion is not promised to Temporal")
	}
	w.must(w.MirrorSchedule(t.Context(), sc.ID, func(_ context.Context, s *warpket.Schedule) error {
		if s != nil {
			t.Errorf("mirrored %+v", s)
		}
		return nil
	}))
	if promises() != 0 {
		t.Error("the promise is there, though it was kept")
	}
}

// until waits for a query to give a number.
func (w *world) until(sql string, want int) {
	w.t.Helper()
	for w.count(sql) != want {
		if err := w.t.Context().Err(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestOverdueSchedulesAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	sc := w.addSchedule(f)
	if got, err := w.OverdueSchedules(t.Context(), *sc.NextTime); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	got, err := w.OverdueSchedules(t.Context(), sc.NextTime.Add(time.Second))
	w.must(err)
	open, err := w.OpenSchedules(t.Context(), "")
	w.must(err)
	if len(got) != 1 || got[0].ID != sc.ID || len(open) != 1 || open[0] != sc.ID {
		t.Errorf("overdue %v, open %v", got, open)
	}
}

func TestSchedulesGoWithTheirFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	sc := w.addSchedule(f)
	w.exec(`delete from outbox`)
	_, err := w.DeleteFunction(t.Context(), w.project, f.ID, false)
	w.must(err)
	if _, err := w.Schedule(t.Context(), w.project, sc.ID); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("it is there: %v", err)
	}
	if n := w.count(`select count(*) from outbox where kind = 'schedule' and subject_id = $1`, sc.ID); n != 1 {
		t.Errorf("%d promises that Temporal's goes", n)
	}
}

func TestASchedulesAliasStaysAndLeadsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	g, _ := w.addFunction(w.project, "ghz")
	w.addAlias("prod", f, 1)
	sc := w.newSchedule(f)
	sc.Version, sc.Alias, sc.FunctionID = 0, "prod", ""
	w.must(w.CreateSchedule(ctx, sc))
	got, err := w.Schedule(ctx, w.project, sc.ID)
	w.must(err)
	if got.FunctionID != f.ID || got.FunctionName != "bell" || got.Alias != "prod" {
		t.Errorf("it is %+v", got)
	}
	missing := w.newSchedule(f)
	missing.Version, missing.Alias = 0, "none"
	wantKind(t, w.CreateSchedule(ctx, missing), warpket.NotFound)
	wantKind(t, w.DeleteAlias(ctx, w.project, "prod", always[warpket.Alias]), warpket.Conflict)

	w.exec(`delete from outbox`)
	_, err = w.UpdateAlias(ctx, w.project, "prod", now(), func(a *warpket.Alias) error {
		a.FunctionID = g.ID
		return nil
	})
	w.must(err)
	if got, err = w.Schedule(ctx, w.project, sc.ID); err != nil || got.FunctionID != g.ID || got.FunctionName != "ghz" {
		t.Errorf("its alias stands for another function, and it is %+v (%v)", got, err)
	}
	if n := w.count(`select count(*) from outbox where kind = 'schedule' and subject_id = $1`, sc.ID); n != 1 {
		t.Errorf("Temporal is promised to hear of it %d times", n)
	}
	if _, err := w.DeleteFunction(ctx, w.project, f.ID, false); err != nil {
		t.Error(err)
	}
	for name, filter := range map[string]postgres.ScheduleFilter{
		"alias": {Alias: "prod"}, "function": {FunctionID: g.ID}, "functions": {Functions: []warpket.ID{g.ID}},
	} {
		if items, _, err := w.Schedules(ctx, w.project, filter, postgres.Page{Limit: 5}); err != nil || len(items) != 1 || items[0].ID != sc.ID {
			t.Errorf("by %s there are %v (%v)", name, items, err)
		}
	}
	got, err = w.UpdateSchedule(ctx, w.project, sc.ID, now(), func(s *warpket.Schedule) error { s.Alias, s.Version = "", 1; return nil })
	if err != nil || got.FunctionID != g.ID {
		t.Errorf("without its alias it is %+v (%v)", got, err)
	}
	w.must(w.DeleteAlias(ctx, w.project, "prod", always[warpket.Alias]))
	err = w.DeleteVersion(ctx, w.project, g.ID, 1, now(), always[warpket.Version])
	wantKind(t, err, warpket.Conflict)
	_, err = w.UpdateSchedule(ctx, w.project, sc.ID, now(), func(s *warpket.Schedule) error { s.Alias, s.Version = "prod", 0; return nil })
	wantKind(t, err, warpket.NotFound)
}

func TestADoneScheduleKeepsNoAlias(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	w.addAlias("prod", f, 1)
	sc := w.newSchedule(f)
	sc.Version, sc.Alias = 0, "prod"
	w.must(w.CreateSchedule(ctx, sc))
	_, err := w.UpdateSchedule(ctx, w.project, sc.ID, now(), func(s *warpket.Schedule) error { return s.Advance(warpket.ScheduleCancelled, now()) })
	w.must(err)
	w.must(w.DeleteAlias(ctx, w.project, "prod", always[warpket.Alias]))
}
