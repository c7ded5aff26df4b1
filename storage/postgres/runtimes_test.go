package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// newRuntime is one that a project creates of a build.
func (w *world) newRuntime(project warpket.ID, name string) warpket.Runtime {
	return warpket.Runtime{ID: newID(), ProjectID: project, Name: name, Trusted: true, BaseID: w.runtime.ID, CreatedDate: now()}
}

// ofImage is one that a project creates of an image.
func ofImage(project warpket.ID, name string) warpket.Runtime {
	return warpket.Runtime{
		ID: newID(), ProjectID: project, Name: name, Trusted: true, RuntimeKey: warpket.ImageRuntime("linux/amd64"), CreatedDate: now(),
		Image: &warpket.Image{Reference: "registry.example/python:3", Pinned: "registry.example/python@sha256:" + strings.Repeat("1", 64)},
	}
}

func (w *world) createRuntime(r warpket.Runtime) warpket.Runtime {
	w.t.Helper()
	r, err := w.CreateRuntime(w.t.Context(), r)
	w.must(err)
	return r
}

// promised reports whether something is promised to be built.
func (w *world) promised(id warpket.ID) bool {
	w.t.Helper()
	return w.count(`select count(*) from outbox where kind = 'build' and subject_id = $1`, id) > 0
}

func (w *world) save(id warpket.ID, status warpket.RuntimeStatus) {
	w.t.Helper()
	_, err := w.SaveRuntime(w.t.Context(), id, status, "lock", "as it goes", now())
	w.must(err)
}

// listedIDs are those of a list, sorted: what is made in one millisecond is in no
// order.
func listedIDs(list []warpket.Runtime) []warpket.ID {
	return sorted(ids(list, func(r warpket.Runtime) warpket.ID { return r.ID }))
}

func sorted(ids []warpket.ID) []warpket.ID { return slices.Sorted(slices.Values(ids)) }

func TestARuntimeHasTheStatusOfTheBuildThatItIsMadeOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.createRuntime(w.newRuntime(w.project, "lab"))
	if r.Status != warpket.RuntimePending || r.SDK != "qiskit" || r.RuntimeKey != w.runtime.RuntimeKey || r.Revision != 1 || !r.Created() || r.BuildID() != w.runtime.ID {
		t.Errorf("it is %+v", r)
	}
	if !w.promised(w.runtime.ID) {
		t.Error("its build is not promised")
	}
	again := w.createRuntime(w.newRuntime(w.project, "lab")) // the same content
	if again.ID == r.ID || again.BuildID() != r.BuildID() {
		t.Errorf("the second is %+v", again)
	}
	awaited, err := w.AwaitedRuntimes(ctx)
	w.must(err)
	if diff := cmp.Diff([]warpket.ID{w.runtime.ID}, awaited); diff != "" {
		t.Error(diff)
	}
	w.save(w.runtime.ID, warpket.RuntimeAvailable)
	for _, id := range []warpket.ID{r.ID, again.ID} {
		got, err := w.ProjectRuntime(ctx, w.project, id)
		w.must(err)
		if got.Status != warpket.RuntimeAvailable || got.Lock != "lock" || got.Message != "as it goes" || got.Name != "lab" {
			t.Errorf("it is %+v", got)
		}
	}
	w.must(w.Kept(ctx, postgres.Promise{Kind: "build", SubjectID: w.runtime.ID}))
	w.createRuntime(w.newRuntime(w.project, "third"))
	if w.promised(w.runtime.ID) {
		t.Error("what is available is promised")
	}
	build, err := w.EnsureRuntime(ctx, warpket.Runtime{ID: newID(), RuntimeKey: w.runtime.RuntimeKey, TemplateTag: "Qiskit", CreatedDate: now()})
	w.must(err)
	if build.ID != w.runtime.ID || build.Created() || !build.Trusted {
		t.Errorf("the build is %+v", build)
	}
}

func TestARuntimeOfAnImageIsItsOwnBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := ofImage(w.project, "image")
	r.Image.Command, r.Credentials, r.Trusted = []string{"python", "/code/handler.py"}, "REGISTRY", false
	want := r
	r = w.createRuntime(r)
	if r.Status != warpket.RuntimePending || !r.OfImages() || !w.promised(r.ID) || r.Trusted || r.Credentials != "REGISTRY" {
		t.Errorf("it is %+v", r)
	}
	if diff := cmp.Diff(want.Image, r.Image); diff != "" {
		t.Error(diff)
	}
	repeated, err := w.CreateRuntime(t.Context(), want)
	if err != nil || repeated.ID != r.ID || w.count(`select count(*) from runtimes`) != 2 {
		t.Errorf("a repeated request gives %+v (%v)", repeated, err)
	}
	w.save(r.ID, warpket.RuntimeFailed)
	if got, err := w.Runtime(t.Context(), r.ID); err != nil || got.Status != warpket.RuntimeFailed || got.Message != "as it goes" {
		t.Errorf("it is %+v (%v)", got, err)
	}
}

func TestAPrivateRuntimeIsNotThereForOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	private := w.createRuntime(w.newRuntime(w.project, "private"))
	public := w.newRuntime(w.project, "public")
	public.Public = true
	public = w.createRuntime(public)
	stranger := w.addProject("two")
	own := w.createRuntime(ofImage(stranger, "own"))

	lists := map[warpket.ID][]warpket.ID{w.project: {public.ID, private.ID, w.runtime.ID}, stranger: {own.ID, public.ID, w.runtime.ID}}
	for project, want := range lists {
		list, next, err := w.Runtimes(ctx, project, postgres.RuntimeFilter{}, postgres.Page{Limit: 10})
		w.must(err)
		if diff := cmp.Diff(sorted(want), listedIDs(list)); diff != "" || next != "" {
			t.Errorf("%s next %q", diff, next)
		}
	}
	for name, call := range map[string]func() error{
		"reading": func() error { _, err := w.ProjectRuntime(ctx, stranger, private.ID); return err },
		"changing": func() error {
			_, err := w.UpdateRuntime(ctx, stranger, private.ID, now(), func(*warpket.Runtime) error { t.Error("changed"); return nil })
			return err
		},
		"deleting": func() error {
			return w.DeleteRuntime(ctx, stranger, private.ID, func(warpket.Runtime) error { return nil })
		},
	} {
		if err := call(); warpket.KindOf(err) != warpket.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	for id, want := range map[warpket.ID]warpket.Kind{private.ID: warpket.Invalid, w.runtime.ID: warpket.Invalid, newID(): warpket.Invalid, public.ID: "", own.ID: ""} {
		f := w.newFunction(stranger, "bell"+string(id[len(id)-8:]))
		f.RuntimeID = id
		wantKind(t, w.CreateFunction(ctx, f, w.version(stranger, f.ID, "x")), want)
	}
}

func TestListsOfRuntimesAreNarrowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lab, public, image := w.newRuntime(w.project, "lab"), w.newRuntime(w.project, "everybody's lab"), ofImage(w.project, "image")
	public.Public = true
	lab, public, image = w.createRuntime(lab), w.createRuntime(public), w.createRuntime(image)
	w.save(image.ID, warpket.RuntimeFailed)
	yes, no := true, false
	eq := func(values ...string) warpket.Condition { return warpket.Condition{Op: warpket.In, Values: values} }
	tests := map[string]struct {
		filter postgres.RuntimeFilter
		want   []warpket.ID
	}{
		"by name":           {postgres.RuntimeFilter{Name: eq("lab")}, []warpket.ID{lab.ID}},
		"by part of a name": {postgres.RuntimeFilter{Name: warpket.Condition{Op: warpket.Has, Values: []string{"lab"}}}, []warpket.ID{public.ID, lab.ID}},
		"by SDK":            {postgres.RuntimeFilter{SDK: eq("qiskit"), SDKVersion: eq("1.0.0")}, []warpket.ID{public.ID, lab.ID, w.runtime.ID}},
		"by SDK version":    {postgres.RuntimeFilter{SDKVersion: eq("2.0.0")}, nil},
		"by status":         {postgres.RuntimeFilter{Status: eq("failed", "building")}, []warpket.ID{image.ID}},
		"builds":            {postgres.RuntimeFilter{Created: &no}, []warpket.ID{w.runtime.ID}},
		"created":           {postgres.RuntimeFilter{Created: &yes}, []warpket.ID{image.ID, public.ID, lab.ID}},
		"private":           {postgres.RuntimeFilter{Public: &no}, []warpket.ID{image.ID, lab.ID}},
		"public, created":   {postgres.RuntimeFilter{Public: &yes, Created: &yes}, []warpket.ID{public.ID}},
	}
	for name, test := range tests {
		list, _, err := w.Runtimes(t.Context(), w.project, test.filter, postgres.Page{Limit: 10})
		w.must(err)
		if diff := cmp.Diff(sorted(test.want), listedIDs(list)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWhatARuntimeIsMadeOfChangesOnlyWhenNothingRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.createRuntime(ofImage(w.project, "image"))
	newer := warpket.Image{Reference: "registry.example/python:4", Pinned: "registry.example/python@sha256:" + strings.Repeat("2", 64)}
	change := func(r *warpket.Runtime) error { r.Image = &newer; return nil }

	_, err := w.UpdateRuntime(ctx, w.project, r.ID, now(), change)
	wantKind(t, err, warpket.Conflict) // it is being built
	renamed, err := w.UpdateRuntime(ctx, w.project, r.ID, now(), func(r *warpket.Runtime) error { r.Name, r.Description = "other", "for tests"; return nil })
	if err != nil || renamed.Name != "other" || renamed.Description != "for tests" || renamed.Revision != 1 {
		t.Errorf("it is %+v (%v)", renamed, err)
	}
	w.save(r.ID, warpket.RuntimeAvailable)
	w.must(w.Kept(ctx, postgres.Promise{Kind: "build", SubjectID: r.ID}))

	f := w.newFunction(w.project, "bell")
	f.RuntimeID = r.ID
	v := w.version(w.project, f.ID, "x")
	v.Snapshot.Image = r.Image
	w.must(w.CreateFunction(ctx, f, v))
	v, err = w.Version(ctx, w.project, f.ID, 1)
	w.must(err)
	if f, err = w.Function(ctx, w.project, f.ID); err != nil || f.RuntimeID != r.ID || !f.InImage || f.Image != nil || v.Snapshot.Image == nil || len(v.Snapshot.Files) != 1 {
		t.Errorf("the function is %+v, its snapshot %+v (%v)", f, v.Snapshot, err)
	}
	e := w.addExecution(f, v)
	_, err = w.UpdateRuntime(ctx, w.project, r.ID, now(), change)
	wantKind(t, err, warpket.Conflict)
	if _, err = w.FinishExecution(ctx, postgres.Finish{ID: e.ID, Status: warpket.Cancelled}, now()); err != nil {
		t.Fatal(err)
	}
	changed, err := w.UpdateRuntime(ctx, w.project, r.ID, now(), change)
	if err != nil || changed.Image.Pinned != newer.Pinned || changed.Revision != 2 || changed.Status != warpket.RuntimePending || changed.Message != "" || !w.promised(r.ID) {
		t.Errorf("it is %+v (%v)", changed, err)
	}
	if v, err = w.Version(ctx, w.project, f.ID, 1); err != nil || v.Snapshot.Image.Pinned == newer.Pinned {
		t.Errorf("the version that was there is %+v (%v)", v.Snapshot.Image, err)
	}

	_, err = w.UpdateRuntime(ctx, w.project, r.ID, now(), func(r *warpket.Runtime) error { r.Name = " "; return nil })
	wantKind(t, err, warpket.Invalid)
	w.save(r.ID, warpket.RuntimeFailed)
	w.must(w.Kept(ctx, postgres.Promise{Kind: "build", SubjectID: r.ID}))
	if r, err = w.UpdateRuntime(ctx, w.project, r.ID, now(), func(r *warpket.Runtime) error { r.Credentials = "REGISTRY"; return nil }); err != nil || r.Status != warpket.RuntimePending || !w.promised(r.ID) {
		t.Errorf("one that had failed is %+v (%v)", r, err)
	}
}

func TestAVersionThatIsPublishedLaterHasTheSDKOfItsRuntime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.save(w.runtime.ID, warpket.RuntimeAvailable)
	r := w.createRuntime(w.newRuntime(w.project, "lab"))
	f := w.newFunction(w.project, "bell")
	f.RuntimeID = r.ID
	w.must(w.CreateFunction(ctx, f, w.version(w.project, f.ID, "x")))
	newer, err := w.EnsureRuntime(ctx, warpket.Runtime{ID: newID(), RuntimeKey: warpket.RuntimeKey{SDK: "qiskit", SDKVersion: "2.0.0", Python: "3.11", Platform: "linux/amd64"}, TemplateTag: "Qiskit", CreatedDate: now()})
	w.must(err)
	if r, err = w.UpdateRuntime(ctx, w.project, r.ID, now(), func(r *warpket.Runtime) error { r.BaseID = newer.ID; return nil }); err != nil || r.SDKVersion != "2.0.0" || !w.promised(newer.ID) {
		t.Fatalf("it is %+v (%v)", r, err)
	}
	v := w.version(w.project, f.ID, "y")
	v.Snapshot.RuntimeID = newer.ID
	_, err = w.Publish(ctx, v)
	w.must(err)
	if f, err = w.Function(ctx, w.project, f.ID); err != nil || f.SDKVersion != "2.0.0" {
		t.Errorf("it has %s (%v)", f.SDKVersion, err)
	}
}

func TestARuntimeIsDeletedWhenNoFunctionHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.createRuntime(ofImage(w.project, "image"))
	f := w.newFunction(w.project, "bell")
	f.RuntimeID = r.ID
	w.must(w.CreateFunction(ctx, f, w.version(w.project, f.ID, "x")))
	may := func(r warpket.Runtime) error { return r.MayBeChangedBy(warpket.Member) }
	err := w.DeleteRuntime(ctx, w.project, r.ID, may)
	wantKind(t, err, warpket.Conflict)
	if !strings.Contains(err.Error(), "bell") {
		t.Errorf("it says %v", err)
	}
	wantKind(t, w.DeleteRuntime(ctx, w.project, w.runtime.ID, may), warpket.Denied)
	_, err = w.DeleteFunction(ctx, w.project, f.ID, false)
	w.must(err)
	w.must(w.DeleteRuntime(ctx, w.project, r.ID, may))
	_, err = w.Runtime(ctx, r.ID)
	wantKind(t, err, warpket.NotFound)
	if w.promised(r.ID) {
		t.Error("it is still promised to be built")
	}
	_, err = w.SaveRuntime(ctx, r.ID, warpket.RuntimeAvailable, "", "", now())
	wantKind(t, err, warpket.NotFound)
}

func TestAFunctionIsCreatedOrItsRuntimeDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 5 {
		r := w.createRuntime(w.newRuntime(w.project, "lab"))
		f := w.newFunction(w.project, "bell"+string(r.ID[len(r.ID)-8:]))
		f.RuntimeID = r.ID
		v := w.version(w.project, f.ID, "x")
		var outcomes counter
		race(2, func(i int) {
			var err error
			if i == 0 {
				err = w.CreateFunction(t.Context(), f, v)
			} else {
				err = w.DeleteRuntime(t.Context(), w.project, r.ID, func(warpket.Runtime) error { return nil })
			}
			outcomes.add(string(warpket.KindOf(err)))
		})
		if outcomes.n[""] != 1 || outcomes.n["invalid"]+outcomes.n["conflict"] != 1 {
			t.Errorf("they ended %v", outcomes.n)
		}
	}
}

func TestTheRuntimeOfAFunctionIsAsTrustedAsTheOneThatItWasCreatedWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRuntime(w.project, "lab")
	r.Trusted = false
	r = w.createRuntime(r)
	for id, want := range map[warpket.ID]bool{"": true, r.ID: false} {
		f := w.newFunction(w.project, "bell"+string(id))
		if f.RuntimeID = id; id != "" {
			f.Name = "untrusted"
		}
		w.must(w.CreateFunction(t.Context(), f, w.version(w.project, f.ID, "x")))
		got, err := w.FunctionRuntime(t.Context(), f.ID, w.runtime.ID)
		w.must(err)
		if got.ID != w.runtime.ID || got.Trusted != want {
			t.Errorf("%s: %+v", f.Name, got)
		}
	}
}

func TestThePoolOfARuntimeIsWhatThereIsForIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	n := w.addNode("node", inventory(8, 8))
	r := w.createRuntime(w.newRuntime(w.project, "lab"))
	f := w.newFunction(w.project, "bell")
	f.RuntimeID = r.ID
	w.must(w.CreateFunction(ctx, f, w.version(w.project, f.ID, "x")))
	v, err := w.Version(ctx, w.project, f.ID, 1)
	w.must(err)
	stranger := w.addProject("two")
	_, theirs := w.addFunction(stranger, "other")
	var slots []warpket.Slot
	for _, v := range []warpket.Version{v, v, theirs} {
		slot := w.lease(newSlot(n, v))
		w.must(w.SlotIsReady(ctx, slot.ID, slot.Generation, 0))
		slots = append(slots, slot)
	}
	w.claim(w.addExecution(f, v), slots[0])
	w.lease(newSlot(n, v)) // which serves nobody yet
	n, err = w.Node(ctx, n.ID)
	w.must(err)
	key := w.runtime.String()
	w.must(w.RenewNode(ctx, n.ID, n.Boot, []warpket.KeptReady{
		{Runtime: key, Workers: 1}, {Runtime: key, Project: w.project, Workers: 1}, {Runtime: key, Project: stranger, Workers: 5}, {Runtime: "another", Workers: 9},
	}, nil))
	tests := map[string]struct {
		project warpket.ID
		of      warpket.Runtime
		want    warpket.Capacity
	}{
		"for its project":                {w.project, r, warpket.Capacity{Total: 4, Available: 3}},
		"for everybody":                  {"", r, warpket.Capacity{Total: 9, Available: 8}},
		"of the build, for everybody":    {"", w.runtime, warpket.Capacity{Total: 10, Available: 9}},
		"of the build, for another":      {stranger, w.runtime, warpket.Capacity{Total: 7, Available: 7}},
		"of an image that nobody runs":   {w.project, w.createRuntime(ofImage(w.project, "image")), warpket.Capacity{}},
		"of the build, for nobody's own": {newID(), w.runtime, warpket.Capacity{Total: 1, Available: 1}},
	}
	for name, test := range tests {
		got, err := w.RuntimeCapacity(ctx, test.project, test.of)
		w.must(err)
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
	w.exec(`update nodes set lease_until = $1`, now().Add(-time.Minute))
	if got, err := w.RuntimeCapacity(ctx, w.project, r); err != nil || got.Total != 2 {
		t.Errorf("with a silent node there are %+v (%v)", got, err)
	}
}
