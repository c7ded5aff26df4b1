package postgres_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func TestASnapshotHasOneBuildForASetOfArchitectures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.addProject("other")
	_, v := w.addFunction(w.project, "vecadd")
	ask := func(architectures ...string) warpket.Build {
		t.Helper()
		b, err := w.EnsureBuild(t.Context(), warpket.Build{ID: newID(), ProjectID: w.project, SnapshotID: v.Snapshot.ID, Architectures: architectures, CreatedDate: now()})
		w.must(err)
		return b
	}
	first := ask("8.0", "9.0")
	if again := ask("8.0", "9.0"); !cmp.Equal(first, again) || first.Status != warpket.BuildPending {
		t.Errorf("asked twice, it is %+v and %+v", first, again)
	}
	sum := warpket.SHA256([]byte("program"))
	w.must(w.TouchOutcome(t.Context(), postgres.Object{ProjectID: w.project, SHA256: sum, Size: 7}, now()))
	first.Status, first.Log, first.SHA256, first.Size = warpket.BuildSucceeded, "ptxas info", sum, 7
	w.must(w.FinishBuild(t.Context(), first, now()))
	late := first
	late.Status, late.SHA256 = warpket.BuildFails, ""
	w.must(w.FinishBuild(t.Context(), late, now())) // of a node that was thought lost
	second := ask("9.0")
	if second.ID == first.ID {
		t.Error("other architectures have the same build")
	}
	got, err := w.Build(t.Context(), first.ID)
	w.must(err)
	if got.Status != warpket.BuildSucceeded || got.SHA256 != sum || got.Log != "ptxas info" {
		t.Errorf("finished, it is %+v", got)
	}
	latest, err := w.BuildOf(t.Context(), w.project, v.Snapshot.ID)
	w.must(err)
	if latest == nil || latest.ID != second.ID {
		t.Errorf("the latest is %+v", latest)
	}
	if theirs, err := w.BuildOf(t.Context(), other, v.Snapshot.ID); theirs != nil || err != nil {
		t.Errorf("another project sees %+v (%v)", theirs, err)
	}

	// The program stays as long as its build does.
	swept := map[string]bool{}
	sweep := func() {
		_, err := w.SweepObjects(t.Context(), now(), func(_ context.Context, o postgres.Object) error {
			swept[o.SHA256] = true
			return nil
		})
		w.must(err)
	}
	sweep()
	if swept[sum] {
		t.Error("the program of a build was swept")
	}
	w.exec(`delete from builds where id = $1`, first.ID)
	sweep()
	if !swept[sum] {
		t.Error("the program of no build was kept")
	}
}
