package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// draft is a snapshot of a function with one file, whose object has its row.
func (w *world) draft(f warpket.Function, content string) warpket.Snapshot {
	w.t.Helper()
	n := w.version(f.ProjectID, f.ID, content).Snapshot
	n.ProjectID, n.FunctionID = f.ProjectID, f.ID
	n.Digest = warpket.SnapshotDigest(n.Files, n.Entry, w.runtime.String())
	return n
}

func (w *world) setDraft(n warpket.Snapshot) warpket.Draft {
	w.t.Helper()
	d, err := w.SetDraft(w.t.Context(), n, now(), anyDraft)
	w.must(err)
	return d
}

func (w *world) draftOf(f warpket.Function) warpket.Draft {
	w.t.Helper()
	d, err := w.Draft(w.t.Context(), f.ProjectID, f.ID)
	w.must(err)
	return d
}

func anyDraft(warpket.Draft) error { return nil }

// publish publishes the draft of a function.
func (w *world) publish(f warpket.Function) warpket.Version {
	w.t.Helper()
	v, err := w.PublishDraft(w.t.Context(), warpket.Version{ID: newID(), ProjectID: f.ProjectID, FunctionID: f.ID, CreatedDate: now()}, anyDraft)
	w.must(err)
	return v
}

func TestADraftIsTheNewestVersionUntilItIsSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	if diff := cmp.Diff(warpket.Draft{Snapshot: v.Snapshot, Newest: 1, Versions: 1}, w.draftOf(f)); diff != "" {
		t.Error(diff)
	}
	v2, err := w.Publish(t.Context(), w.version(w.project, f.ID, "second"))
	w.must(err)
	if d := w.draftOf(f); d.Snapshot.ID != v2.Snapshot.ID || d.Changed {
		t.Errorf("it did not go along: %+v", d)
	}

	n := w.draft(f, "edited")
	if diff := cmp.Diff(warpket.Draft{Snapshot: n, Newest: 2, Versions: 2, Changed: true}, w.setDraft(n)); diff != "" {
		t.Error(diff)
	}
	if _, err := w.Publish(t.Context(), w.version(w.project, f.ID, "third")); err != nil {
		t.Fatal(err)
	}
	if d := w.draftOf(f); d.Snapshot.ID != n.ID || !d.Changed || d.Newest != 3 {
		t.Errorf("what was edited is lost: %+v", d)
	}
	if got, err := w.Snapshot(t.Context(), n.ID); err != nil || !cmp.Equal(got, n) {
		t.Errorf("the snapshot is %+v (%v)", got, err)
	}
}

func TestADraftIsPublishedUnderTheNextNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.newFunction(w.project, "bell")
	first := w.draft(f, "first")
	for range 2 { // again does nothing
		w.must(w.CreateFunctionWithDraft(t.Context(), f, first))
	}
	_, err := w.Version(t.Context(), w.project, f.ID, 0)
	wantKind(t, err, warpket.NotFound)
	if diff := cmp.Diff(warpket.Draft{Snapshot: first, Changed: true}, w.draftOf(f)); diff != "" {
		t.Error(diff)
	}

	v := w.publish(f)
	if v.Number != 1 || v.Snapshot.ID != first.ID || len(v.Snapshot.Files) != 1 {
		t.Errorf("published %+v", v)
	}
	if d := w.draftOf(f); d.Changed || d.Newest != 1 {
		t.Errorf("the draft is %+v", d)
	}
	refused := warpket.Errorf(warpket.Conflict, "nothing has changed")
	_, err = w.PublishDraft(t.Context(), warpket.Version{ID: newID(), ProjectID: w.project, FunctionID: f.ID, CreatedDate: now()}, func(d warpket.Draft) error {
		if d.Changed || d.Versions != 1 {
			t.Errorf("the check sees %+v", d)
		}
		return refused
	})
	wantKind(t, err, warpket.Conflict)
	w.setDraft(w.draft(f, "second"))
	var numbers counter
	id := newID()
	race(8, func(int) { // one request, repeated
		v, err := w.PublishDraft(t.Context(), warpket.Version{ID: id, ProjectID: w.project, FunctionID: f.ID, CreatedDate: now()}, anyDraft)
		if err != nil {
			t.Error(err)
		}
		numbers.add(fmt.Sprint(v.Number))
	})
	if numbers.n["2"] != 8 {
		t.Errorf("the numbers are %v", numbers.n)
	}
}

func TestTheDeploymentsOfADraftFollowIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "bell")
	old := w.draft(f, "old")
	d := w.addDeployment(f, w.setDraft(old).Version())
	other := w.addDeployment(f, v)
	slot := newSlot(w.addNode("n", inventory(4, 4)), w.draftOf(f).Version())
	slot.DeploymentID = d.ID
	slot = w.lease(slot)
	w.must(w.SlotIsReady(ctx, slot.ID, slot.Generation, 0))
	for _, id := range []warpket.ID{d.ID, other.ID} {
		w.must(w.AdvanceDeployment(ctx, id, warpket.DeploymentPlacing, "", now()))
		w.must(w.AdvanceDeployment(ctx, id, warpket.DeploymentReady, "", now()))
	}
	if !w.draftOf(f).Deployed {
		t.Error("the draft is not deployed")
	}

	n := w.draft(f, "new")
	w.setDraft(n)
	got, err := w.DeploymentByID(ctx, d.ID)
	w.must(err)
	if got.SnapshotID != n.ID || got.Status != warpket.DeploymentDegraded || got.Ready != 0 || len(got.Placement) != 1 {
		t.Errorf("the deployment is %+v", got)
	}
	if got, err := w.DeploymentByID(ctx, other.ID); err != nil || got.SnapshotID != v.Snapshot.ID || got.Status != warpket.DeploymentReady {
		t.Errorf("that of a version is %+v (%v)", got, err)
	}
	w.must(w.AdvanceDeployment(ctx, d.ID, warpket.DeploymentReady, "", now())) // as a round may say that has read before
	if ids := w.deploymentIDs("unsettled"); !slices.Equal(ids, []warpket.ID{d.ID}) {
		t.Errorf("unsettled are %v", ids)
	}
	// The same again changes nothing.
	same := w.draft(f, "new")
	if d := w.setDraft(same); d.Snapshot.ID != n.ID {
		t.Error("the same code is another draft")
	}
	w.must(w.AdvanceDeployment(ctx, d.ID, warpket.DeploymentDetached, "", now()))
	w.setDraft(w.draft(f, "newest"))
	if got, err := w.DeploymentByID(ctx, d.ID); err != nil || got.SnapshotID != n.ID {
		t.Errorf("one that is detached has followed: %+v (%v)", got, err)
	}
}

func TestADeploymentHasTheDraftOfItsMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	stale := w.setDraft(w.draft(f, "0")).Version()
	var ids [10]warpket.ID
	drafts := make([]warpket.Snapshot, len(ids))
	for i := range ids {
		drafts[i], ids[i] = w.draft(f, fmt.Sprint(i)), newID()
	}
	race(len(ids)*2, func(i int) {
		var err error
		if i%2 == 0 {
			_, err = w.SetDraft(t.Context(), drafts[i/2], now(), anyDraft)
		} else {
			err = w.CreateDeployment(t.Context(), warpket.Deployment{
				ID: ids[i/2], ProjectID: w.project, FunctionID: f.ID, SnapshotID: stale.Snapshot.ID, RuntimeID: w.runtime.ID, Slots: 1, Status: warpket.DeploymentPending, CreatedDate: now(),
			})
		}
		if err != nil {
			t.Error(err)
		}
	})
	want := w.draftOf(f).Snapshot.ID
	for _, id := range ids {
		if d, err := w.DeploymentByID(t.Context(), id); err != nil || d.SnapshotID != want {
			t.Errorf("a deployment holds %s, the draft is %s (%v)", d.SnapshotID, want, err)
		}
	}
}

func TestADraftTakesOverAnotherEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	enter := func(entry string) {
		t.Helper()
		_, err := w.UpdateFunction(t.Context(), w.project, f.ID, now(), func(f *warpket.Function) error { f.Settings.Entry = entry; return nil })
		w.must(err)
	}
	enter("handler.other")
	if d := w.draftOf(f); d.Snapshot.ID != v.Snapshot.ID {
		t.Errorf("the newest version was changed: %+v", d)
	}
	n := w.draft(f, "edited")
	w.setDraft(n)
	enter("handler.third")
	d := w.draftOf(f)
	if d.Snapshot.Entry != "handler.third" || d.Snapshot.ID == n.ID || d.Snapshot.Digest == n.Digest || len(d.Snapshot.Files) != 1 || d.Snapshot.Files[0].SHA256 != n.Files[0].SHA256 {
		t.Errorf("the draft is %+v", d)
	}
	want := w.draft(f, "edited")
	if digest := warpket.SnapshotDigest(want.Files, "handler.third", w.runtime.String()); d.Snapshot.Digest != digest {
		t.Errorf("its digest is %s, want %s", d.Snapshot.Digest, digest)
	}
	if old, err := w.Snapshot(t.Context(), n.ID); err != nil || old.Entry != n.Entry {
		t.Errorf("the snapshot before is %+v (%v)", old, err)
	}
}

func TestADraftIsSetOnlyAsItWasSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	seen := w.draftOf(f).Snapshot.ID
	var won counter
	race(8, func(i int) {
		_, err := w.SetDraft(t.Context(), w.draft(f, fmt.Sprint(i)), now(), func(d warpket.Draft) error {
			if d.Snapshot.ID != seen {
				return warpket.Errorf(warpket.Stale, "changed")
			}
			return nil
		})
		if err == nil {
			won.add("won")
		} else {
			wantKind(t, err, warpket.Stale)
		}
	})
	if won.n["won"] != 1 {
		t.Errorf("%d won", won.n["won"])
	}
}

func TestSnapshotsGoWhenNothingNeedsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v1 := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(8, 8))
	needed := map[string]warpket.ID{"a version's": v1.Snapshot.ID}
	set := func(content string) warpket.Snapshot { return w.setDraft(w.draft(f, content)).Snapshot }

	gone := set("not needed")
	n := set("in a slot")
	needed["in a slot"] = n.ID
	slot := w.lease(newSlot(node, w.draftOf(f).Version()))
	n = set("in a deployment")
	needed["in a deployment"] = n.ID
	d := w.addDeployment(f, w.draftOf(f).Version())
	w.must(w.AdvanceDeployment(ctx, d.ID, warpket.DeploymentDetached, "", now()))
	n = set("in an execution")
	needed["in an execution"] = n.ID
	e := w.addExecution(f, w.draftOf(f).Version())
	n = set("published")
	needed["published"] = n.ID
	w.publish(f)
	n = set("the draft")
	needed["the draft"] = n.ID

	sweep := func(before time.Time) int {
		t.Helper()
		n, err := w.SweepSnapshots(ctx, before)
		w.must(err)
		return n
	}
	w.exec(`update objects set touched_date = now() - interval '3 days'`)
	if n := sweep(now().Add(-time.Hour)); n != 0 {
		t.Errorf("%d were swept too early", n)
	}
	if n := sweep(now().Add(time.Hour)); n != 1 {
		t.Errorf("%d were swept", n)
	}
	if _, err := w.Snapshot(ctx, gone.ID); warpket.KindOf(err) != warpket.NotFound {
		t.Errorf("what nobody needs is there (%v)", err)
	}
	for why, id := range needed {
		if got, err := w.Snapshot(ctx, id); err != nil || len(got.Files) != 1 {
			t.Errorf("%s: %+v (%v)", why, got, err)
		}
	}
	if n := w.count(`select count(*) from objects where sha256 = $1 and touched_date > now() - interval '1 hour'`, gone.Files[0].SHA256); n != 1 {
		t.Error("its object goes at once, though another draft may just have taken it over")
	}

	w.must(w.ReleaseSlot(ctx, slot.ID, slot.Generation))
	w.must(w.DeleteDeployment(ctx, w.project, d.ID))
	_, err := w.AskCancel(ctx, w.project, e.ID, warpket.Failure{}, now())
	w.must(err)
	if n := sweep(now().Add(time.Hour)); n != 3 {
		t.Errorf("%d were swept of what is needed no longer, want 3", n)
	}
}

func TestADraftThatEqualsTheNewestVersionIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	w.setDraft(w.draft(f, "edited"))
	n := w.draft(f, "as it was")
	n.Digest = v.Snapshot.Digest
	if d := w.setDraft(n); d.Changed || d.Snapshot.ID != n.ID {
		t.Errorf("the draft is %+v", d)
	}
	v2, err := w.Publish(t.Context(), w.version(w.project, f.ID, "second"))
	w.must(err)
	if d := w.draftOf(f); d.Snapshot.ID != v2.Snapshot.ID {
		t.Errorf("the draft is %+v", d)
	}
	if n := w.count(`select count(*) from snapshots where unused_date is not null`); n != 2 {
		t.Errorf("%d snapshots will be swept, want both that were drafts only", n)
	}
}

func TestAFunctionGoesWithItsDraft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.newFunction(w.project, "bell")
	w.must(w.CreateFunctionWithDraft(t.Context(), f, w.draft(f, "first")))
	w.setDraft(w.draft(f, "second"))
	d := w.addDeployment(f, w.draftOf(f).Version())
	left, err := w.DeleteFunction(t.Context(), w.project, f.ID, false)
	w.must(err)
	if !slices.Equal(left.Deployments, []warpket.ID{d.ID}) {
		t.Errorf("it leaves %+v", left)
	}
	for _, table := range []string{"functions", "snapshots", "files", "deployments", "outbox"} {
		if n := w.count(`select count(*) from ` + table); n != 0 {
			t.Errorf("%d %s are left", n, table)
		}
	}
}

func TestAVersionIsDeletedOnlyWhenNothingRefersToIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v1 := w.addFunction(w.project, "bell")
	remove := func(number int) error {
		return w.DeleteVersion(ctx, w.project, f.ID, number, now(), func(warpket.Version) error { return nil })
	}
	wantKind(t, remove(1), warpket.Conflict) // all the code that there is
	v2, err := w.Publish(ctx, w.version(w.project, f.ID, "second"))
	w.must(err)
	d := w.addDeployment(f, v1)
	wantKind(t, remove(1), warpket.Conflict)
	w.must(w.AdvanceDeployment(ctx, d.ID, warpket.DeploymentDetached, "", now()))
	wantKind(t, remove(3), warpket.NotFound)
	w.must(remove(1))
	wantKind(t, remove(1), warpket.NotFound)
	wantKind(t, remove(2), warpket.Conflict)

	w.setDraft(w.draft(f, "draft"))
	w.must(remove(2)) // there is a draft
	_, err = w.Version(ctx, w.project, f.ID, 0)
	wantKind(t, err, warpket.NotFound)
	if v := w.publish(f); v.Number != 3 {
		t.Errorf("the next number is %d", v.Number)
	}
	if n := w.count(`select count(*) from snapshots where id = $1 and unused_date is not null`, v2.Snapshot.ID); n != 1 {
		t.Error("the snapshot of a deleted version stays for good")
	}
}

func TestTheDraftFallsBackWhenTheNewestVersionIsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v1 := w.addFunction(w.project, "bell")
	_, err := w.Publish(t.Context(), w.version(w.project, f.ID, "second"))
	w.must(err)
	d := w.addDeployment(f, w.draftOf(f).Version())
	w.must(w.DeleteVersion(t.Context(), w.project, f.ID, 2, now(), func(warpket.Version) error { return nil }))
	if got, err := w.DeploymentByID(t.Context(), d.ID); err != nil || got.SnapshotID != v1.Snapshot.ID {
		t.Errorf("its deployment is %+v (%v)", got, err)
	}
}

func TestADeploymentAndTheDeletionOfItsVersionTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 5 {
		f, v1 := w.addFunction(w.project, "bell-"+string(newID())[24:])
		_, err := w.Publish(t.Context(), w.version(w.project, f.ID, "second"))
		w.must(err)
		var done counter
		race(2, func(i int) {
			var err error
			if i == 0 {
				err = w.DeleteVersion(t.Context(), w.project, f.ID, 1, now(), func(warpket.Version) error { return nil })
			} else {
				err = w.CreateDeployment(t.Context(), warpket.Deployment{ID: newID(), ProjectID: w.project, FunctionID: f.ID, VersionNumber: 1, SnapshotID: v1.Snapshot.ID, RuntimeID: w.runtime.ID, Slots: 1, Status: warpket.DeploymentPending, CreatedDate: now()})
			}
			if err == nil {
				done.add("done")
			} else if k := warpket.KindOf(err); k != warpket.Conflict && k != warpket.NotFound {
				t.Error(err)
			}
		})
		if done.n["done"] != 1 {
			t.Errorf("%d of the two were done", done.n["done"])
		}
	}
}

func TestOnlyTheDescriptionOfAVersionChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	at := now().Add(time.Minute)
	got, err := w.UpdateVersion(t.Context(), w.project, f.ID, 1, at, func(v *warpket.Version) error { v.Description, v.Number = "better", 7; return nil })
	w.must(err)
	v.Description, v.UpdatedDate = "better", at
	if diff := cmp.Diff(v, got); diff != "" {
		t.Error(diff)
	}
	_, err = w.UpdateVersion(t.Context(), w.project, f.ID, 2, at, func(*warpket.Version) error { return nil })
	wantKind(t, err, warpket.NotFound)
}

func TestWorkersAreListedWithTheirVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v1 := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(8, 8, "gpu"))
	onDemand := w.lease(newSlot(node, v1, "gpu"))
	w.must(w.SlotIsReady(ctx, onDemand.ID, onDemand.Generation, 0))
	w.setDraft(w.draft(f, "draft"))
	draft := w.draftOf(f).Version()
	d := w.addDeployment(f, draft)
	held := newSlot(node, draft)
	held.DeploymentID = d.ID
	held = w.lease(held)
	_, other := w.addFunction(w.project, "other")
	w.lease(newSlot(node, other))

	list := func(filter postgres.WorkerFilter) []warpket.Worker {
		t.Helper()
		l, _, err := w.Workers(ctx, w.project, f.ID, filter, postgres.Page{Limit: 10})
		w.must(err)
		return l
	}
	want := []warpket.Worker{
		{Slot: held.ID, NodeID: node.ID, Node: "n", Deployment: d.ID, Snapshot: draft.Snapshot.ID, Status: warpket.SlotPreparing, Resources: held.Resources, Devices: []string{}, Reason: held.Reason, Since: held.CreatedDate},
		{Slot: onDemand.ID, NodeID: node.ID, Node: "n", Snapshot: v1.Snapshot.ID, Version: 1, Status: warpket.SlotReady, Resources: onDemand.Resources, Devices: []string{"gpu"}, Reason: onDemand.Reason, Since: onDemand.CreatedDate},
	}
	if diff := cmp.Diff(want, list(postgres.WorkerFilter{})); diff != "" {
		t.Error(diff)
	}
	for number, i := range map[int]int{0: 0, 1: 1} {
		if diff := cmp.Diff(want[i:i+1], list(postgres.WorkerFilter{Version: &number})); diff != "" {
			t.Error(diff)
		}
	}
	if l := list(postgres.WorkerFilter{Version: new(2)}); len(l) != 0 {
		t.Errorf("of another version there are %v", l)
	}
}

func TestFunctionsAreFoundByEachOfTheirFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	add := func(name string, set func(*warpket.Function)) warpket.Function {
		t.Helper()
		f := w.newFunction(w.project, name)
		set(&f)
		w.must(w.CreateFunction(t.Context(), f, w.version(w.project, f.ID, name)))
		return f
	}
	early := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	bell := add("bell", func(f *warpket.Function) {
		f.ID, f.CreatedDate = warpket.NewID(early), early
		f.Label, f.Description = "Bell 100%", "two_qubits"
	})
	ghz := add("ghz-state", func(f *warpket.Function) {
		f.SDK, f.SDKVersion, f.TemplateTag, f.Label = "cirq", "1.4.0", "Cirq", "GHZ"
		f.Description = "twoXqubits"
	})
	is := func(op warpket.Op, values ...string) warpket.Condition {
		return warpket.Condition{Op: op, Values: values}
	}
	both := []string{"ghz-state", "bell"}
	for name, c := range map[string]struct {
		filter postgres.FunctionFilter
		want   []string
	}{
		"nothing":              {postgres.FunctionFilter{}, both},
		"name":                 {postgres.FunctionFilter{Name: is(warpket.Eq, "bell")}, []string{"bell"}},
		"names":                {postgres.FunctionFilter{Name: is(warpket.In, "bell", "ghz-state", "x")}, both},
		"part of a name":       {postgres.FunctionFilter{Name: is(warpket.Has, "z-st")}, []string{"ghz-state"}},
		"label":                {postgres.FunctionFilter{Label: is(warpket.Eq, "GHZ")}, []string{"ghz-state"}},
		"no wildcard":          {postgres.FunctionFilter{Label: is(warpket.Has, "1%0")}, nil},
		"a percent sign":       {postgres.FunctionFilter{Label: is(warpket.Has, "00%")}, []string{"bell"}},
		"an underscore":        {postgres.FunctionFilter{Description: is(warpket.Has, "two_qubits")}, []string{"bell"}},
		"a backslash":          {postgres.FunctionFilter{Description: is(warpket.Has, `two\_qubits`)}, nil},
		"template":             {postgres.FunctionFilter{TemplateTag: is(warpket.Eq, "Cirq")}, []string{"ghz-state"}},
		"SDKs":                 {postgres.FunctionFilter{SDK: is(warpket.In, "cirq", "qiskit")}, both},
		"SDK and its version":  {postgres.FunctionFilter{SDK: is(warpket.Eq, "qiskit"), SDKVersion: is(warpket.Eq, "1.0.0")}, []string{"bell"}},
		"version of another":   {postgres.FunctionFilter{SDK: is(warpket.Eq, "qiskit"), SDKVersion: is(warpket.Eq, "1.4.0")}, nil},
		"created since":        {postgres.FunctionFilter{CreatedDate: is(warpket.Gte, ghz.CreatedDate.Format(time.RFC3339Nano))}, []string{"ghz-state"}},
		"created at or after":  {postgres.FunctionFilter{CreatedDate: is(warpket.Gte, early.Format(time.RFC3339))}, both},
		"created after":        {postgres.FunctionFilter{CreatedDate: is(warpket.Gt, early.Format(time.RFC3339))}, []string{"ghz-state"}},
		"created at or before": {postgres.FunctionFilter{CreatedDate: is(warpket.Lte, bell.CreatedDate.Format(time.RFC3339))}, []string{"bell"}},
		"created before":       {postgres.FunctionFilter{CreatedDate: is(warpket.Lt, early.Format(time.RFC3339))}, nil},
		"before all time":      {postgres.FunctionFilter{CreatedDate: is(warpket.Lt, "0000-01-01T00:00:00Z")}, nil},
		"after all time":       {postgres.FunctionFilter{CreatedDate: is(warpket.Gt, "9999-12-31T23:59:59Z")}, nil},
		"changed since":        {postgres.FunctionFilter{UpdatedDate: is(warpket.Gt, early.Format(time.RFC3339))}, []string{"ghz-state"}},
	} {
		l, _, err := w.Functions(t.Context(), w.project, c.filter, postgres.Page{Limit: 10})
		var got []string
		for _, f := range l {
			got = append(got, f.Name)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v (%v), want %v", name, got, err, c.want)
		}
	}
	_, _, err := w.Functions(t.Context(), w.project, postgres.FunctionFilter{UpdatedDate: is(warpket.Gt, "yesterday")}, postgres.Page{Limit: 10})
	wantKind(t, err, warpket.Invalid)
}
