package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestAFunctionComesBackAsItWasCreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.newFunction(w.project, "bell")
	f.Description, f.Settings.Retries, f.Label = "two qubits", 3, "Bell, twice"
	v := w.version(w.project, f.ID, "print(1)")
	for range 2 { // again does nothing
		w.must(w.CreateFunction(t.Context(), f, v))
	}
	got, err := w.Function(t.Context(), w.project, f.ID)
	w.must(err)
	f.UpdatedDate, f.NextVersion = f.CreatedDate, 2
	if diff := cmp.Diff(f, got); diff != "" {
		t.Error(diff)
	}
	gotVersion, err := w.Version(t.Context(), w.project, f.ID, 0)
	w.must(err)
	v.Number, v.Snapshot.ProjectID, v.Snapshot.FunctionID, v.UpdatedDate = 1, w.project, f.ID, v.CreatedDate
	if diff := cmp.Diff(v, gotVersion); diff != "" {
		t.Error(diff)
	}
	snapshot, err := w.Snapshot(t.Context(), v.Snapshot.ID)
	w.must(err)
	if diff := cmp.Diff(v.Snapshot, snapshot); diff != "" {
		t.Error(diff)
	}
}

func TestATakenNameLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var created counter
	race(8, func(int) {
		f := w.newFunction(w.project, "bell")
		err := w.CreateFunction(t.Context(), f, w.version(w.project, f.ID, "x"))
		if err == nil {
			created.add("created")
			return
		}
		wantKind(t, err, warpket.Conflict)
		if e, ok := errors.AsType[*warpket.Error](err); !ok || e.Field != "functionName" {
			t.Errorf("the error names %q", e.Field)
		}
	})
	if created.n["created"] != 1 {
		t.Errorf("%d were created", created.n["created"])
	}
	for _, table := range []string{"functions", "snapshots", "versions", "files"} {
		if n := w.count(`select count(*) from ` + table); n != 1 {
			t.Errorf("%d %s", n, table)
		}
	}
	w.addFunction(w.addProject("two"), "bell") // another project may have the name
}

func TestAFunctionWithoutItsObjectsLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.newFunction(w.project, "bell")
	v := w.version(w.project, f.ID, "x")
	w.exec(`delete from objects`)
	wantKind(t, w.CreateFunction(t.Context(), f, v), warpket.Conflict)
	if n := w.count(`select count(*) from functions`); n != 0 {
		t.Error("the function is there")
	}
}

func TestVersionNumbersAreUniqueAndNeverReused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	var numbers counter
	race(20, func(i int) {
		v, err := w.Publish(t.Context(), w.version(w.project, f.ID, fmt.Sprint(i)))
		if err != nil {
			t.Error(err)
		}
		numbers.add(fmt.Sprint(v.Number))
	})
	for n := 2; n <= 21; n++ {
		if numbers.n[fmt.Sprint(n)] != 1 {
			t.Errorf("number %d was given %d times", n, numbers.n[fmt.Sprint(n)])
		}
	}

	bad := w.version(w.project, f.ID, "bad")
	bad.Snapshot.Files = append(bad.Snapshot.Files, bad.Snapshot.Files[0])
	_, err := w.Publish(t.Context(), bad)
	wantKind(t, err, warpket.Conflict)
	w.exec(`delete from versions where number = 21`)
	v, err := w.Publish(t.Context(), w.version(w.project, f.ID, "next"))
	w.must(err)
	if v.Number != 22 {
		t.Errorf("the number is %d, want 22", v.Number)
	}
}

func TestPublishingAVersionAgainGivesWhatIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	v := w.version(w.project, f.ID, "x")
	race(8, func(int) {
		got, err := w.Publish(t.Context(), v)
		if err != nil || got.Number != 2 || got.ID != v.ID || len(got.Snapshot.Files) != 1 {
			t.Errorf("got %+v (%v)", got, err)
		}
	})
	next, err := w.Publish(t.Context(), w.version(w.project, f.ID, "y"))
	w.must(err)
	if next.Number != 3 {
		t.Errorf("the next number is %d", next.Number)
	}
	_, err = w.Publish(t.Context(), w.version(w.project, newID(), "z"))
	wantKind(t, err, warpket.NotFound)
}

func TestVersionsTellWhetherTheyAreDeployed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	if v, err := w.Version(t.Context(), w.project, f.ID, 1); err != nil || !v.Deployed {
		t.Errorf("deployed %v (%v)", v.Deployed, err)
	}
	w.must(w.AdvanceDeployment(t.Context(), d.ID, warpket.DeploymentDetached, "", now()))
	if v, err := w.Version(t.Context(), w.project, f.ID, 1); err != nil || v.Deployed {
		t.Errorf("deployed %v (%v)", v.Deployed, err)
	}
}

func TestUpdatesOfAFunctionTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.addFunction(w.project, "taken")
	race(10, func(int) {
		_, err := w.UpdateFunction(t.Context(), w.project, f.ID, now(), func(f *warpket.Function) error {
			f.Settings.Retries++
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	got, err := w.Function(t.Context(), w.project, f.ID)
	w.must(err)
	if got.Settings.Retries != 10 {
		t.Errorf("%d of 10 updates are there", got.Settings.Retries)
	}
	for want, change := range map[warpket.Kind]func(*warpket.Function) error{
		warpket.Conflict: func(f *warpket.Function) error { f.Name = "taken"; return nil },
		warpket.Invalid:  func(f *warpket.Function) error { f.Name = "x"; return warpket.Errorf(warpket.Invalid, "no") },
	} {
		_, err := w.UpdateFunction(t.Context(), w.project, f.ID, now(), change)
		wantKind(t, err, want)
	}
	if after, err := w.Function(t.Context(), w.project, f.ID); err != nil || !cmp.Equal(got, after) {
		t.Errorf("a refused update changed it (%v)", err)
	}
}

func TestDeletingAFunctionLeavesItsExecutions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	slot := newSlot(w.addNode("n", inventory(4, 4, "gpu")), v, "gpu")
	slot.DeploymentID = d.ID
	slot = w.lease(slot)
	e := w.addExecution(f, v)

	_, err := w.DeleteFunction(t.Context(), w.project, f.ID, false)
	wantKind(t, err, warpket.Conflict)
	if _, err := w.Function(t.Context(), w.project, f.ID); err != nil {
		t.Fatal(err)
	}
	left, err := w.DeleteFunction(t.Context(), w.project, f.ID, true)
	w.must(err)
	if !slices.Equal(left.Executions, []warpket.ID{e.ID}) || !slices.Equal(left.Deployments, []warpket.ID{d.ID}) || len(left.Slots) != 1 {
		t.Errorf("it leaves %+v", left)
	}
	if got := w.execution(e.ID); got.FunctionName != "bell" {
		t.Errorf("the execution is %+v", got)
	}
	// Its programs may still run: what they hold stays leased until they are ended.
	if got, err := w.SlotByID(t.Context(), slot.ID); err != nil || len(got.Devices) != 1 || got.DeploymentID != "" {
		t.Errorf("the slot is %+v (%v)", got, err)
	}
	for _, table := range []string{"functions", "versions", "snapshots", "files", "deployments"} {
		if n := w.count(`select count(*) from ` + table); n != 0 {
			t.Errorf("%d %s are left", n, table)
		}
	}
	if n := w.count(`select count(*) from outbox where kind = 'deploy'`); n != 0 {
		t.Error("a workflow is promised to what is gone")
	}
	_, err = w.DeleteFunction(t.Context(), w.project, f.ID, true)
	wantKind(t, err, warpket.NotFound)
}

func TestRuntimesAreOnePerKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ids counter
	key := warpket.RuntimeKey{SDK: "qiskit", SDKVersion: "0.45.3", Python: "3.11", Platform: "linux/amd64"}
	until := now().Truncate(time.Second)
	race(8, func(int) {
		r, err := w.EnsureRuntime(t.Context(), warpket.Runtime{ID: newID(), RuntimeKey: key, TemplateTag: "Qiskit", LockedUntil: until, CreatedDate: now()})
		if err != nil || r.RuntimeKey != key || r.Status != warpket.RuntimePending || !r.LockedUntil.Equal(until) {
			t.Errorf("got %+v (%v)", r, err)
		}
		ids.add(string(r.ID))
	})
	if len(ids.n) != 1 {
		t.Errorf("there are %d", len(ids.n))
	}
	r, err := w.SaveRuntime(t.Context(), w.runtime.ID, warpket.RuntimeBuilding, "the lock", "installing", now())
	w.must(err)
	r, err = w.SaveRuntime(t.Context(), r.ID, warpket.RuntimeAvailable, "another lock", "", now())
	w.must(err)
	if r.Lock != "the lock" || r.Status != warpket.RuntimeAvailable || !r.LockedUntil.IsZero() {
		t.Errorf("it is %+v", r)
	}
	r.ID, r.Requirements = newID(), "more" // derived from one that is available
	r, err = w.EnsureRuntime(t.Context(), r)
	if err != nil || r.Status != warpket.RuntimePending || r.Lock != "" {
		t.Errorf("with requirements it is %+v (%v)", r, err)
	}
	r, err = w.EnsureRuntime(t.Context(), warpket.Runtime{ID: newID(), RuntimeKey: warpket.ImageRuntime("linux/amd64"), CreatedDate: now()})
	if err != nil || r.Status != warpket.RuntimeAvailable || !r.OfImages() {
		t.Errorf("that of images is %+v (%v)", r, err)
	}
	_, err = w.SaveRuntime(t.Context(), newID(), warpket.RuntimeFailed, "", "", now())
	wantKind(t, err, warpket.NotFound)
}

func TestASnapshotOfAnImageIsKeptWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.newFunction(w.project, "bell")
	v := w.version(w.project, f.ID, "#")
	v.Snapshot.Files = nil
	v.Snapshot.Image = &warpket.Image{Reference: "registry.example/bell:1", Pinned: "registry.example/bell@sha256:1", Command: []string{"bell", "-x"}}
	w.must(w.CreateFunction(t.Context(), f, v))
	for name, read := range map[string]func() (*warpket.Image, error){
		"its version": func() (*warpket.Image, error) {
			v, err := w.Version(t.Context(), w.project, f.ID, 1)
			return v.Snapshot.Image, err
		},
		"its snapshot": func() (*warpket.Image, error) { s, err := w.Snapshot(t.Context(), v.Snapshot.ID); return s.Image, err },
		"its function": func() (*warpket.Image, error) {
			f, err := w.Function(t.Context(), w.project, f.ID)
			return f.Image, err
		},
	} {
		got, err := read()
		w.must(err)
		if diff := cmp.Diff(v.Snapshot.Image, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
