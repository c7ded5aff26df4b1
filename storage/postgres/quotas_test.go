package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// limit sets one bound of a project.
func (w *world) limit(project warpket.ID, what warpket.Limit, n int64) {
	w.t.Helper()
	_, err := w.SetQuota(w.t.Context(), project, now(), func(q *warpket.Quota) error { q.Limits[what] = n; return nil })
	w.must(err)
}

// kinds counts how many calls at once end in what way.
func (w *world) kinds(n int, call func(i int) error) map[string]int {
	var ends counter
	race(n, func(i int) { ends.add(string(warpket.KindOf(call(i)))) })
	return ends.n
}

func TestNoRaceExceedsAQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "first")
	node := w.addNode("node", inventory(64, 64))
	for _, test := range []struct {
		what warpket.Limit
		room int64 // besides what there is
		call func(i int) error
	}{
		{warpket.FunctionLimit, 3, func(i int) error {
			f := w.newFunction(w.project, fmt.Sprint("racing-", i))
			return w.CreateFunction(ctx, f, w.version(w.project, f.ID, "# first"))
		}},
		{warpket.SlotLimit, 3, func(int) error {
			for {
				_, err := w.LeaseSlot(ctx, newSlot(node, v))
				if warpket.KindOf(err) != warpket.Conflict {
					return err
				}
			}
		}},
		{warpket.StorageLimit, 30, func(i int) error {
			return w.TouchObjects(ctx, []postgres.Object{{ProjectID: w.project, SHA256: warpket.SHA256([]byte{byte(i)}), Size: 10}}, now())
		}},
	} {
		used, err := w.Used(ctx, w.project, now())
		w.must(err)
		w.limit(w.project, test.what, used[test.what]+test.room)
		if diff := cmp.Diff(map[string]int{"": 3, "over_quota": 5}, w.kinds(8, test.call)); diff != "" {
			t.Errorf("%s: %s", test.what, diff)
		}
		after, err := w.Used(ctx, w.project, now())
		w.must(err)
		if after[test.what] != used[test.what]+test.room {
			t.Errorf("%s: there are %d, want %d", test.what, after[test.what], used[test.what]+test.room)
		}
	}

	// What deployments want together is bounded before they hold it.
	used, err := w.Used(ctx, w.project, now())
	w.must(err)
	w.limit(w.project, warpket.SlotLimit, 4)
	d := w.addDeployment(f, v)
	ends := w.kinds(8, func(int) error { return w.ScaleDeployment(ctx, d.ID, 5, time.Time{}, now()) })
	if diff := cmp.Diff(map[string]int{"over_quota": 8}, ends); diff != "" {
		t.Errorf("scaling over the quota, with %d: %s", used[warpket.SlotLimit], diff)
	}
	w.must(w.ScaleDeployment(ctx, d.ID, 4, time.Time{}, now()))
	d.ID = newID()
	wantKind(t, w.CreateDeployment(ctx, d), warpket.OverQuota)
	if n := w.count(`select count(*) from outbox where subject_id = $1`, d.ID); n != 0 {
		t.Error("a deployment that was refused is promised")
	}
}

func TestAQuotaFallsBackToTheDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	stranger := w.addProject("two")
	w.limit("", warpket.FunctionLimit, 1)
	w.limit("", warpket.CPULimit, 9)
	w.limit(w.project, warpket.FunctionLimit, 2)
	for project, want := range map[warpket.ID]map[warpket.Limit]int64{
		w.project: {warpket.FunctionLimit: 2, warpket.CPULimit: 9},
		stranger:  {warpket.FunctionLimit: 1, warpket.CPULimit: 9},
	} {
		st, err := w.Standing(ctx, project, now())
		w.must(err)
		if diff := cmp.Diff(want, st.Quota.Limits); diff != "" {
			t.Error(diff)
		}
	}
	w.addFunction(stranger, "only")
	f := w.newFunction(stranger, "more")
	err := w.CreateFunction(ctx, f, w.version(stranger, f.ID, "# more"))
	wantKind(t, err, warpket.OverQuota)
	if err == nil || !strings.Contains(err.Error(), "1 functions and has 1") {
		t.Errorf("it does not tell the limit and what is used: %v", err)
	}
	w.addFunction(w.project, "one")
	w.addFunction(w.project, "two")
	_, err = w.SetQuota(ctx, newID(), now(), func(*warpket.Quota) error { return nil })
	wantKind(t, err, warpket.Conflict) // there is no such project
	if diff := cmp.Diff(map[string]int{"": 1, "stale": 7}, w.kinds(8, func(int) error {
		_, err := w.SetQuota(ctx, stranger, now(), func(q *warpket.Quota) error {
			if !q.UpdatedDate.IsZero() {
				return warpket.Errorf(warpket.Stale, "changed")
			}
			return nil
		})
		return err
	})); diff != "" {
		t.Errorf("of those who set a quota for the first time: %s", diff)
	}
}

func TestStorageIsWhatObjectsHave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	stored := func() int {
		return w.count(`select coalesce((select bytes from project_storage where project_id = $1), 0)`, w.project)
	}
	a := postgres.Object{ProjectID: w.project, SHA256: warpket.SHA256([]byte("a")), Size: 100}
	b := postgres.Object{ProjectID: w.project, SHA256: warpket.SHA256([]byte("b")), Size: 50}
	race(8, func(int) {
		if err := w.TouchObjects(ctx, []postgres.Object{a, b, a}, now()); err != nil {
			t.Error(err)
		}
	})
	if n := stored(); n != 150 {
		t.Errorf("%d bytes, want 150", n)
	}
	w.limit(w.project, warpket.StorageLimit, 150)
	w.must(w.TouchObjects(ctx, []postgres.Object{a, b}, now())) // they are there already
	c := postgres.Object{ProjectID: w.project, SHA256: warpket.SHA256([]byte("c")), Size: 1}
	wantKind(t, w.TouchObjects(ctx, []postgres.Object{c}, now()), warpket.OverQuota)
	w.must(w.TouchOutcome(ctx, c, now()))
	removed := 0
	for {
		n, err := w.SweepObjects(ctx, now().Add(time.Hour), nothing)
		w.must(err)
		if removed += n; n == 0 {
			break
		}
	}
	if n := stored(); removed != 3 || n != 0 {
		t.Errorf("after %d were removed there are %d bytes", removed, n)
	}
}

func TestUsageIsCountedOnceAndOutlivesWhatUsedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "bell")
	node := w.addNode("node", inventory(8, 8, "gpu-0"))
	slot := w.lease(newSlot(node, v, "gpu-0"))
	end := func(status warpket.Status, cpu time.Duration) {
		e := w.claim(w.addExecution(f, v), slot)
		finished, err := w.FinishExecution(ctx, postgres.Finish{ID: e.ID, Attempt: 1, Status: status, Usage: warpket.Usage{CPU: cpu}}, e.StartedDate.Add(2*time.Second))
		if err != nil || !finished {
			t.Fatal(finished, err)
		}
	}
	end(warpket.Succeeded, time.Second)
	end(warpket.Failed, time.Second/2)
	e := w.addExecution(f, v)
	_, err := w.AskCancel(ctx, w.project, e.ID, warpket.Failure{Code: warpket.CancelledCode}, now())
	w.must(err)
	// An attempt that is followed by another has used what it has; one that was
	// taken back before it started has not.
	e = w.claim(w.addExecution(f, v), slot)
	_, err = w.FinishExecution(ctx, postgres.Finish{ID: e.ID, Attempt: 1, Status: warpket.Failed, Usage: warpket.Usage{CPU: 3 * time.Second}, Again: true}, now())
	w.must(err)
	e = w.claim(e, slot)
	w.must(w.UnclaimExecution(ctx, e.ID, e.Attempt, e.Generation, warpket.Failure{}))
	e = w.claim(e, slot)
	_, err = w.FinishExecution(ctx, postgres.Finish{ID: e.ID, Attempt: 2, Status: warpket.Succeeded, Usage: warpket.Usage{CPU: 4 * time.Second}}, now())
	w.must(err)

	filter := postgres.UsageFilter{Since: now().Add(-time.Hour), Until: now().Add(2 * time.Hour)}
	check := func(when string) {
		t.Helper()
		days, err := w.UsageByDay(ctx, w.project, filter)
		w.must(err)
		functions, _, err := w.UsageByFunction(ctx, w.project, filter, postgres.Page{Limit: 10})
		w.must(err)
		if len(days) == 0 || len(functions) != 1 || functions[0].FunctionID != f.ID {
			t.Fatalf("%s: by day %+v, by function %+v", when, days, functions)
		}
		u := functions[0]
		if diff := cmp.Diff(map[warpket.Status]int64{warpket.Succeeded: 2, warpket.Failed: 1, warpket.Cancelled: 1, warpket.TimedOut: 0, warpket.Lost: 0}, u.Executions); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		if u.CPUSeconds != 8.5 || u.MemorySeconds < 4*float64(1<<30)/1e9 {
			t.Errorf("%s: %+v", when, u)
		}
		if u.SlotSeconds <= 0 || u.GPUSeconds != u.SlotSeconds {
			t.Errorf("%s: the slot had one GPU, and %+v", when, u)
		}
		theirs, err := w.UsageByDay(ctx, newID(), filter)
		if len(theirs) != 0 || err != nil {
			t.Errorf("another project has used %v (%v)", theirs, err)
		}
	}
	check("before it is moved")
	w.exec(`update slots set counted_date = now() - interval '1 minute'`)
	race(4, func(int) {
		if _, err := w.CountUsage(ctx); err != nil {
			t.Error(err)
		}
	})
	_, err = w.CountUsage(ctx)
	w.must(err)
	if n := w.count(`select count(*) from usage_events`); n != 0 {
		t.Errorf("%d events are left", n)
	}
	check("once it is moved")
	w.limit(w.project, warpket.CPULimit, 100)
	if st, err := w.Standing(ctx, w.project, now()); err != nil || st.Used[warpket.CPULimit] != 8 || st.Used[warpket.GPULimit] < 59 {
		t.Errorf("of the month %+v (%v)", st.Used, err)
	}
	w.must(w.ReleaseSlot(ctx, slot.ID, slot.Generation))
	_, err = w.DeleteFunction(ctx, w.project, f.ID, true)
	w.must(err)
	w.exec(`delete from executions`)
	check("when all is deleted")
	if list, err := w.UsageByDay(ctx, w.project, postgres.UsageFilter{Since: filter.Since, Until: filter.Until, Functions: []warpket.ID{newID()}}); len(list) != 0 || err != nil {
		t.Errorf("another function has used %v (%v)", list, err)
	}
}

func TestADeletedProjectLeavesOnlyItsUsageAndAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "bell")
	w.addDeployment(f, v)
	node := w.addNode("node", inventory(8, 8))
	slot := w.lease(newSlot(node, v))
	w.addExecution(f, v)
	w.must(w.CreateMember(ctx, warpket.ProjectMember{ID: newID(), ProjectID: w.project, Name: "ada", Role: warpket.Admin, CreatedDate: now()}))
	token := warpket.Token{ID: newID(), ProjectID: w.project, Role: warpket.Admin, Name: "mine", SecretHash: warpket.HashSecret("s"), CreatedDate: now()}
	w.must(w.CreateToken(ctx, token))
	w.must(w.BeginAct(ctx, warpket.Act{ID: newID(), ProjectID: w.project, TokenID: token.ID, Role: warpket.Admin, Operation: "x", CreatedDate: now()}))
	w.limit(w.project, warpket.SlotLimit, 10)
	fine := func(warpket.Project) error { return nil }

	wantKind(t, w.DeleteProject(ctx, "one", false, now(), fine), warpket.Conflict)
	w.must(w.DeleteProject(ctx, "one", true, now(), fine))
	_, err := w.Project(ctx, string(w.project))
	wantKind(t, err, warpket.NotFound)
	if got, err := w.Token(ctx, token.ID); err != nil || got.Holds("s", now()) {
		t.Errorf("its token holds: %v", err)
	}
	w.addProject("one") // the name is free

	done, err := w.PurgeProject(ctx, w.project, nothing)
	if done || err != nil || w.count(`select count(*) from executions where project_id = $1`, w.project) != 1 {
		t.Fatalf("with functions, done is %v (%v)", done, err)
	}
	left, err := w.DeleteFunction(ctx, w.project, f.ID, true)
	w.must(err)
	if len(left.Slots) != 1 || len(left.Executions) != 1 {
		t.Fatalf("left are %+v", left)
	}
	if done, err = w.PurgeProject(ctx, w.project, nothing); done || err != nil {
		t.Fatalf("with a slot, done is %v (%v)", done, err)
	}
	w.must(w.ReleaseSlot(ctx, slot.ID, slot.Generation))
	_, err = w.AskCancel(ctx, w.project, left.Executions[0], warpket.Failure{}, now())
	w.must(err)
	if done, err = w.PurgeProject(ctx, w.project, nothing); !done || err != nil {
		t.Fatalf("at last, done is %v (%v)", done, err)
	}
	for _, table := range []string{"projects where id", "executions where project_id", "objects where project_id", "tokens where project_id", "members where project_id", "quotas where project_id", "project_storage where project_id"} {
		if n := w.count(`select count(*) from `+table+` = $1`, w.project); n != 0 {
			t.Errorf("%d are left of %s", n, table)
		}
	}
	acts, _, err := w.Acts(ctx, postgres.ActFilter{ProjectID: w.project}, postgres.Page{Limit: 5})
	usage, err2 := w.UsageByDay(ctx, w.project, postgres.UsageFilter{Since: now().Add(-time.Hour), Until: now().Add(2 * time.Hour)})
	if len(acts) != 1 || len(usage) == 0 || err != nil || err2 != nil {
		t.Errorf("of its audit and usage are left %v and %v (%v, %v)", acts, usage, err, err2)
	}
	wantKind(t, w.DeleteProject(ctx, string(w.project), true, now(), fine), warpket.NotFound)
	w.must(w.CreateProject(ctx, warpket.Project{ID: newID(), Name: warpket.DefaultProject, CreatedDate: now()}))
	wantKind(t, w.DeleteProject(ctx, warpket.DefaultProject, true, now(), fine), warpket.Conflict)
}

func TestNothingIsLeftOfADeletedProjectButWhatOthersUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	other := w.project
	gone := w.addProject("gone")
	f, _ := w.addFunction(gone, "bell")
	_, err := w.Publish(ctx, w.version(gone, f.ID, "second"))
	w.must(err)
	alias := w.addAlias("prod", f, 1)
	hook := w.newWebhook(f)
	w.must(w.CreateWebhook(ctx, hook))
	hook.ID, hook.FunctionID, hook.Alias = newID(), "", alias.Name
	w.must(w.CreateWebhook(ctx, hook))
	schedule := w.addSchedule(f)
	byAlias := w.newSchedule(f)
	byAlias.Version, byAlias.Alias = 0, alias.Name
	w.must(w.CreateSchedule(ctx, byAlias))
	_, err = w.SetDraft(ctx, w.draft(f, "draft"), now(), anyDraft)
	w.must(err)
	w.must(w.AddCommit(ctx, gone, f.ID, warpket.Commit{Number: 1, Hash: "a"}, "", []warpket.GitObject{{Hash: "a", Kind: "commit", Content: []byte("c"), Size: 1}}))
	runtimes := map[bool]warpket.ID{}
	for _, public := range []bool{false, true} {
		r := warpket.Runtime{ID: newID(), RuntimeKey: warpket.ImageRuntime("linux/amd64"), ProjectID: gone, Name: "lab", Public: public, Image: &warpket.Image{Reference: "r.example/x:1", Pinned: "r.example/x@sha256:1"}, CreatedDate: now(), UpdatedDate: now()}
		_, err := w.CreateRuntime(ctx, r)
		w.must(err)
		runtimes[public] = r.ID
	}
	theirs := w.newFunction(other, "theirs")
	theirs.RuntimeID = runtimes[true]
	w.must(w.CreateFunction(ctx, theirs, w.version(other, theirs.ID, "x")))

	w.must(w.DeleteProject(ctx, string(gone), true, now(), func(warpket.Project) error { return nil }))
	_, err = w.DeleteFunction(ctx, gone, f.ID, true)
	w.must(err)
	if done, err := w.PurgeProject(ctx, gone, func(context.Context, postgres.Object) error { return nil }); !done || err != nil {
		t.Fatalf("done is %v (%v)", done, err)
	}
	stays := map[string]bool{"usage_events": true, "usage_hours": true, "usage_months": true, "audit": true}
	var tables []string
	w.conn(func(conn *pgx.Conn) {
		rows, err := conn.Query(ctx, `select c.relname from pg_attribute a join pg_class c on c.oid = a.attrelid
			where a.attname = 'project_id' and c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = current_schema()::regnamespace`)
		w.must(err)
		tables, err = pgx.CollectRows(rows, pgx.RowTo[string])
		w.must(err)
	})
	if len(tables) < 20 {
		t.Errorf("there are only %v", tables)
	}
	for _, table := range tables {
		if n := w.count(`select count(*) from `+table+` where project_id = $1`, gone); n != 0 && !stays[table] {
			t.Errorf("%d are left of %s", n, table)
		}
	}
	for _, table := range []string{"commits", "alias_versions"} {
		if n := w.count(`select count(*) from ` + table); n != 0 {
			t.Errorf("%d are left of %s", n, table)
		}
	}
	if n := w.count(`select count(*) from outbox where kind = 'schedule' and subject_id in ($1, $2)`, schedule.ID, byAlias.ID); n != 2 {
		t.Errorf("Temporal's schedules are not promised to go: %d are", n)
	}
	if r, err := w.ProjectRuntime(ctx, other, runtimes[true]); err != nil || !r.Public || r.ProjectID != "" {
		t.Errorf("the public runtime is %+v (%v)", r, err)
	}
}

// What refers to a project goes with it: by itself, or with its functions, its
// slots or its objects. A new table that does neither would keep deleted
// projects for ever.
func TestNothingKeepsADeletedProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	byHand := map[string]bool{"functions": true, "snapshots": true, "versions": true, "deployments": true, "slots": true, "objects": true, "schedules": true}
	w.conn(func(conn *pgx.Conn) {
		rows, err := conn.Query(t.Context(), `select conrelid::regclass::text from pg_constraint where contype = 'f' and confrelid = 'projects'::regclass and confdeltype <> 'c' and conparentid = 0`)
		w.must(err)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		w.must(err)
		if len(tables) == 0 {
			t.Error("no table refers to projects")
		}
		for _, table := range tables {
			if !byHand[table] {
				t.Errorf("%s refers to projects: let it go with them (on delete cascade), or have PurgeProject see to it", table)
			}
		}
	})
}

func TestTheAuditIsListedByWhatItHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	tokens := []warpket.ID{newID(), newID()}
	began := now().Add(-time.Minute)
	add := func(token warpket.ID, member, operation, subject string, status int) warpket.ID {
		began = began.Add(time.Second) // the IDs of one moment are in no order
		a := warpket.Act{ID: warpket.NewID(began), ProjectID: w.project, TokenID: token, TokenName: "ci", Member: member, Role: warpket.Member, Operation: operation, Subject: subject, Address: "::1", Agent: "test", CreatedDate: now()}
		w.must(w.BeginAct(ctx, a))
		if status != 0 {
			w.must(w.EndAct(ctx, a.ID, status))
		}
		return a.ID
	}
	a := add(tokens[0], "ada", "delete-function", "f", 200)
	b := add(tokens[0], "", "create-version", "f/3", 422)
	c := add(tokens[1], "", "delete-function", "ff", 403)
	d := add(tokens[1], "", "delete-function", "f0", 0)
	w.must(w.BeginAct(ctx, warpket.Act{ID: newID(), ProjectID: newID(), TokenID: tokens[0], Role: warpket.Member, Operation: "delete-function", Subject: "f", CreatedDate: now()}))
	for name, test := range map[string]struct {
		filter postgres.ActFilter
		want   []warpket.ID
	}{
		"all":             {postgres.ActFilter{}, []warpket.ID{d, c, b, a}},
		"of a token":      {postgres.ActFilter{TokenID: tokens[0]}, []warpket.ID{b, a}},
		"of a member":     {postgres.ActFilter{Member: "ada"}, []warpket.ID{a}},
		"an operation":    {postgres.ActFilter{Operation: "delete-function"}, []warpket.ID{d, c, a}},
		"a subject":       {postgres.ActFilter{Subject: "f"}, []warpket.ID{b, a}},
		"a part of it":    {postgres.ActFilter{Subject: "f/3"}, []warpket.ID{b}},
		"what was done":   {postgres.ActFilter{Outcome: postgres.ActSucceeded}, []warpket.ID{a}},
		"what was denied": {postgres.ActFilter{Outcome: postgres.ActDenied}, []warpket.ID{c}},
		"what was wrong":  {postgres.ActFilter{Outcome: postgres.ActRefused}, []warpket.ID{b}},
		"what is unknown": {postgres.ActFilter{Outcome: postgres.ActUnknown}, []warpket.ID{d}},
		"later":           {postgres.ActFilter{Since: now().Add(time.Minute)}, nil},
		"earlier":         {postgres.ActFilter{Until: now().Add(-time.Minute)}, nil},
	} {
		test.filter.ProjectID = w.project
		list, _, err := w.Acts(ctx, test.filter, postgres.Page{Limit: 10})
		w.must(err)
		var got []warpket.ID
		for _, x := range list {
			got = append(got, x.ID)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if all, _, err := w.Acts(ctx, postgres.ActFilter{}, postgres.Page{Limit: 10}); len(all) != 5 || err != nil {
		t.Errorf("of all projects there are %d (%v)", len(all), err)
	}
	n, err := w.ForgetActs(ctx, now().Add(time.Minute))
	if n != 5 || err != nil {
		t.Errorf("%d were forgotten (%v)", n, err)
	}
}

func TestAMembersTokensDoNoMoreThanTheMemberAndEndWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	stranger := w.addProject("two")
	m := warpket.ProjectMember{ID: newID(), ProjectID: w.project, Name: "ada", Email: "ada@example.org", Role: warpket.Member, CreatedDate: now(), UpdatedDate: now()}
	w.must(w.CreateMember(ctx, m))
	again := m
	again.ID = newID()
	wantKind(t, w.CreateMember(ctx, again), warpket.Conflict)
	token := warpket.Token{ID: newID(), ProjectID: w.project, Role: warpket.Member, Name: "laptop", Description: "hers", SecretHash: warpket.HashSecret("s"), CreatedDate: now(), Member: "ada", Functions: []warpket.ID{f.ID}}
	w.must(w.CreateToken(ctx, token))
	got, err := w.ProjectToken(ctx, w.project, token.ID)
	w.must(err)
	token.MemberRole = warpket.Member
	if diff := cmp.Diff(token, got); diff != "" {
		t.Error(diff)
	}
	_, err = w.ProjectToken(ctx, stranger, token.ID)
	wantKind(t, err, warpket.NotFound)
	for name, change := range map[string]func(*warpket.Token){
		"more than the member":   func(t *warpket.Token) { t.Role = warpket.Admin },
		"nobody's":               func(t *warpket.Token) { t.Member = "bob" },
		"in another project":     func(t *warpket.Token) { t.ProjectID, t.Functions = stranger, nil },
		"for another's function": func(t *warpket.Token) { t.ProjectID, t.Member = stranger, "" },
		"for no function":        func(t *warpket.Token) { t.Functions = []warpket.ID{f.ID, newID()} },
	} {
		bad := token
		bad.ID = newID()
		change(&bad)
		if err := w.CreateToken(ctx, bad); warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}

	_, err = w.UpdateMember(ctx, w.project, "ada", now(), func(m *warpket.ProjectMember) error { m.Role = warpket.Viewer; return nil })
	w.must(err)
	if got, err = w.Token(ctx, token.ID); err != nil || got.Acts() != warpket.Viewer {
		t.Errorf("of a viewer it acts as %s (%v)", got.Acts(), err)
	}
	w.must(w.TokenUsed(ctx, token.ID, now()))
	wantKind(t, w.DeleteMember(ctx, stranger, "ada", now(), func(warpket.ProjectMember) error { return nil }), warpket.NotFound)
	w.must(w.DeleteMember(ctx, w.project, "ada", now(), func(warpket.ProjectMember) error { return nil }))
	if got, err = w.Token(ctx, token.ID); err != nil || got.Holds("s", now()) || got.LastUsedDate == nil {
		t.Errorf("after the member is gone: %+v (%v)", got, err)
	}
	_, err = w.Member(ctx, w.project, "ada")
	wantKind(t, err, warpket.NotFound)
}

// nothing has to be done to remove an object here.
func nothing(context.Context, postgres.Object) error { return nil }

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
