package postgres_test

import (
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

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

func TestHistoryThatIsPushedCountsWithWhatIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "bell")
	w.must(w.AddCommit(ctx, w.project, f.ID, warpket.Commit{Number: 1, Hash: "first"}, "", nil))
	stored := func() int64 {
		return int64(w.count(`select bytes from project_storage where project_id = $1`, w.project))
	}
	before := stored()
	const size = 1000
	push := func(hash, parent string) error {
		next := w.version(w.project, f.ID, "# bell") // an object that is there
		_, err := w.PublishCommit(ctx, next, hash, parent, []warpket.GitObject{
			{Hash: hash, Kind: "commit", Content: make([]byte, size), Size: size},
			{Hash: "blob", Kind: "blob", SHA256: v.Snapshot.Files[0].SHA256, Size: v.Snapshot.Files[0].Size},
		})
		return err
	}
	w.must(push("second", "first"))
	if got := stored() - before; got != size {
		t.Errorf("%d bytes more are stored", got)
	}
	w.limit(w.project, warpket.StorageLimit, before+size+10)
	wantKind(t, push("third", "second"), warpket.OverQuota)
	if n := w.count(`select count(*) from versions where function_id = $1`, f.ID); n != 2 || stored() != before+size {
		t.Errorf("there are %d versions, and %d bytes", n, stored())
	}
	_, err := w.DeleteFunction(ctx, w.project, f.ID, true)
	w.must(err)
	if got := stored(); got != before {
		t.Errorf("without the function %d bytes are stored", got)
	}
}

func TestAFunctionWithOnlyADraftCountsInItsQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.limit(w.project, warpket.FunctionLimit, 1)
	add := func(name string) error {
		f := w.newFunction(w.project, name)
		return w.CreateFunctionWithDraft(t.Context(), f, w.version(w.project, f.ID, name).Snapshot)
	}
	w.must(add("one"))
	wantKind(t, add("two"), warpket.OverQuota)
}
