package postgres_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func TestAProjectSeesNothingOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "bell")
	d, e := w.addDeployment(f, v), w.addExecution(f, v)
	w.lease(newSlot(w.addNode("n", inventory(4, 4)), v))
	token := warpket.Token{ID: newID(), ProjectID: w.project, Role: warpket.Admin, Name: "mine", SecretHash: warpket.HashSecret("s"), CreatedDate: now()}
	w.must(w.CreateToken(ctx, token))
	alias, hook := w.addAlias("prod", f, 1), w.newWebhook(f)
	w.must(w.CreateWebhook(ctx, hook))
	stranger := w.addProject("two")

	for name, call := range map[string]func() error{
		"its function": func() error { _, err := w.Function(ctx, stranger, f.ID); return err },
		"changing it": func() error {
			_, err := w.UpdateFunction(ctx, stranger, f.ID, now(), func(*warpket.Function) error { t.Error("changed"); return nil })
			return err
		},
		"deleting it":        func() error { _, err := w.DeleteFunction(ctx, stranger, f.ID, true); return err },
		"its version":        func() error { _, err := w.Version(ctx, stranger, f.ID, 1); return err },
		"its newest version": func() error { _, err := w.Version(ctx, stranger, f.ID, 0); return err },
		"publishing":         func() error { _, err := w.Publish(ctx, w.version(stranger, f.ID, "x")); return err },
		"its draft":          func() error { _, err := w.Draft(ctx, stranger, f.ID); return err },
		"setting its draft": func() error {
			n := w.draft(f, "x")
			n.ProjectID = stranger
			_, err := w.SetDraft(ctx, n, now(), anyDraft)
			return err
		},
		"publishing its draft": func() error {
			_, err := w.PublishDraft(ctx, warpket.Version{ID: newID(), ProjectID: stranger, FunctionID: f.ID, CreatedDate: now()}, anyDraft)
			return err
		},
		"describing its version": func() error {
			_, err := w.UpdateVersion(ctx, stranger, f.ID, 1, now(), func(*warpket.Version) error { t.Error("changed"); return nil })
			return err
		},
		"deleting its version": func() error {
			return w.DeleteVersion(ctx, stranger, f.ID, 1, now(), func(warpket.Version) error { t.Error("changed"); return nil })
		},
		"deploying it": func() error {
			return w.CreateDeployment(ctx, warpket.Deployment{ID: newID(), ProjectID: stranger, FunctionID: f.ID, VersionNumber: 1, Status: warpket.DeploymentPending, CreatedDate: now()})
		},
		"its deployment":           func() error { _, err := w.Deployment(ctx, stranger, d.ID); return err },
		"deleting its deployment":  func() error { return w.DeleteDeployment(ctx, stranger, d.ID) },
		"its execution":            func() error { _, err := w.Execution(ctx, stranger, e.ID); return err },
		"cancelling its execution": func() error { _, err := w.AskCancel(ctx, stranger, e.ID, warpket.Failure{}, now()); return err },
		"revoking its token":       func() error { return w.RevokeToken(ctx, stranger, token.ID, now()) },
		"its alias":                func() error { _, err := w.Alias(ctx, stranger, alias.Name); return err },
		"changing its alias": func() error {
			_, err := w.UpdateAlias(ctx, stranger, alias.Name, now(), func(*warpket.Alias) error { t.Error("changed"); return nil })
			return err
		},
		"deleting its alias": func() error { return w.DeleteAlias(ctx, stranger, alias.Name, always[warpket.Alias]) },
		"its webhook":        func() error { _, err := w.Webhook(ctx, stranger, hook.ID); return err },
		"changing its webhook": func() error {
			_, err := w.UpdateWebhook(ctx, stranger, hook.ID, now(), func(*warpket.Webhook) error { t.Error("changed"); return nil })
			return err
		},
		"deleting its webhook": func() error { return w.DeleteWebhook(ctx, stranger, hook.ID, always[warpket.Webhook]) },
	} {
		if err := call(); warpket.KindOf(err) != warpket.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}

	page := postgres.Page{Limit: 10}
	for name, list := range map[string]func() (int, error){
		"functions": func() (int, error) {
			l, _, err := w.Functions(ctx, stranger, postgres.FunctionFilter{}, page)
			return len(l), err
		},
		"versions": func() (int, error) {
			l, _, err := w.Versions(ctx, stranger, f.ID, postgres.VersionFilter{}, page)
			return len(l), err
		},
		"workers": func() (int, error) {
			l, _, err := w.Workers(ctx, stranger, f.ID, postgres.WorkerFilter{}, page)
			return len(l), err
		},
		"counts": func() (int, error) { c, err := w.ExecutionCounts(ctx, stranger, f.ID); return len(c), err },
		"deployments": func() (int, error) {
			l, _, err := w.Deployments(ctx, stranger, postgres.DeploymentFilter{}, page)
			return len(l), err
		},
		"executions": func() (int, error) {
			l, _, err := w.Executions(ctx, stranger, postgres.ExecutionFilter{}, page)
			return len(l), err
		},
		"aliases": func() (int, error) {
			l, _, err := w.Aliases(ctx, stranger, postgres.AliasFilter{}, page)
			return len(l), err
		},
		"webhooks": func() (int, error) {
			l, _, err := w.Webhooks(ctx, stranger, postgres.WebhookFilter{}, page)
			return len(l), err
		},
		"tokens": func() (int, error) {
			l, _, err := w.Tokens(ctx, stranger, postgres.TokenFilter{}, page)
			return len(l), err
		},
		"files": func() (int, error) {
			l, err := w.FilesByID(ctx, stranger, f.ID, []warpket.ID{v.Snapshot.Files[0].ID})
			return len(l), err
		},
	} {
		if n, err := list(); n != 0 || err != nil {
			t.Errorf("it sees %d of its %s (%v)", n, name, err)
		}
	}
	if got := w.execution(e.ID); got.Status != warpket.Queued || got.CancelAsked {
		t.Errorf("the execution is %+v", got)
	}
	files, err := w.FilesByID(ctx, w.project, f.ID, []warpket.ID{v.Snapshot.Files[0].ID, newID()})
	w.must(err)
	if diff := cmp.Diff(map[warpket.ID]warpket.File{v.Snapshot.Files[0].ID: v.Snapshot.Files[0]}, files); diff != "" {
		t.Error(diff)
	}
}

func TestProjectsHaveOneNameEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ids counter
	race(8, func(int) {
		p, err := w.EnsureProject(t.Context(), warpket.Project{ID: newID(), Name: "default", CreatedDate: now()})
		if err != nil {
			t.Error(err)
		}
		ids.add(string(p.ID))
	})
	if len(ids.n) != 1 {
		t.Errorf("there are %d", len(ids.n))
	}
	wantKind(t, w.CreateProject(t.Context(), warpket.Project{ID: newID(), Name: "default", CreatedDate: now()}), warpket.Conflict)
	for _, key := range []string{"one", string(w.project)} {
		if p, err := w.Project(t.Context(), key); err != nil || p.ID != w.project || p.Name != "one" {
			t.Errorf("%q is %+v (%v)", key, p, err)
		}
	}
	for _, key := range []string{"", "three", "%", "' or true --"} {
		_, err := w.Project(t.Context(), key)
		wantKind(t, err, warpket.NotFound)
	}
}

func TestTokensAreRevokedForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := warpket.Token{ID: newID(), ProjectID: w.project, Role: warpket.Member, Name: "ci", SecretHash: warpket.HashSecret("s"), CreatedDate: now()}
	operator := warpket.Token{ID: newID(), Role: warpket.Operator, Name: "root", SecretHash: warpket.HashSecret("o"), CreatedDate: now()}
	w.must(w.CreateToken(t.Context(), token))
	w.must(w.CreateToken(t.Context(), operator))
	for _, want := range []warpket.Token{token, operator} {
		got, err := w.Token(t.Context(), want.ID)
		w.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	bad := warpket.Token{ID: newID(), ProjectID: w.project, Role: warpket.Operator, SecretHash: []byte("x"), CreatedDate: now()}
	if err := w.CreateToken(t.Context(), bad); err == nil {
		t.Error("an operator's token belongs to a project")
	}
	// Whoever asks again for the same has not got the first secret.
	again := token
	again.SecretHash = warpket.HashSecret("again")
	w.must(w.CreateToken(t.Context(), again))
	if got, err := w.Token(t.Context(), token.ID); err != nil || !got.Holds("again", now()) {
		t.Errorf("what was answered last does not hold (%v)", err)
	}
	elsewhere := again
	elsewhere.ProjectID, elsewhere.SecretHash = w.addProject("elsewhere"), warpket.HashSecret("other")
	wantKind(t, w.CreateToken(t.Context(), elsewhere), warpket.Conflict)
	first := now()
	for _, at := range []time.Time{first, first.Add(time.Hour)} {
		w.must(w.RevokeToken(t.Context(), w.project, token.ID, at))
	}
	got, err := w.Token(t.Context(), token.ID)
	w.must(err)
	if got.RevokedDate == nil || !got.RevokedDate.Equal(first) || got.Holds("again", now()) {
		t.Errorf("it is %+v", got)
	}
	if list, _, err := w.Tokens(t.Context(), w.project, postgres.TokenFilter{}, postgres.Page{Limit: 5}); len(list) != 0 || err != nil {
		t.Errorf("in force are %v (%v)", list, err)
	}
}

func TestCursorsPageThroughEverythingOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	const before = 23
	var want []warpket.ID
	add := func() warpket.ID { return w.addExecution(f, v).ID }
	for range before {
		want = append(want, add())
	}
	slices.Sort(want)
	slices.Reverse(want)

	var got []warpket.ID
	for page := (postgres.Page{Limit: 5}); ; {
		list, next, err := w.Executions(t.Context(), w.project, postgres.ExecutionFilter{}, page)
		w.must(err)
		if len(list) > 5 || len(list) < 5 && next != "" {
			t.Errorf("a page of %d, next %q", len(list), next)
		}
		for _, e := range list {
			got = append(got, e.ID)
		}
		add() // what comes meanwhile is newer than every cursor
		if page.Cursor = next; next == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d items, want %d", len(got), before)
	}
	exact := postgres.Page{Limit: w.count(`select count(*) from executions`)}
	if list, next, err := w.Executions(t.Context(), w.project, postgres.ExecutionFilter{}, exact); len(list) != exact.Limit || next != "" || err != nil {
		t.Errorf("a page for all has %d, next %q (%v)", len(list), next, err)
	}
	for _, cursor := range []string{"x", "====", "AAAA", "JyBvciB0cnVlIC0t"} {
		_, _, err := w.Functions(t.Context(), w.project, postgres.FunctionFilter{}, postgres.Page{Cursor: cursor})
		wantKind(t, err, warpket.Invalid)
	}
	for limit, want := range map[int]int{-1: 1, 0: 1, 1000: 28} {
		list, _, err := w.Executions(t.Context(), w.project, postgres.ExecutionFilter{}, postgres.Page{Limit: limit})
		if len(list) != want || err != nil {
			t.Errorf("limit %d gives %d (%v)", limit, len(list), err)
		}
	}
}

func TestEveryListPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "a0")
	w.addFunction(w.project, "a1")
	w.addFunction(w.project, "a2")
	for i := range 3 {
		w.addDeployment(f, v)
		w.addNode([]string{"x", "y", "z"}[i], inventory(1, 1))
		w.must(w.CreateToken(ctx, warpket.Token{ID: newID(), ProjectID: w.project, Role: warpket.Viewer, SecretHash: []byte("x"), CreatedDate: now()}))
		if i > 0 {
			_, err := w.Publish(ctx, w.version(w.project, f.ID, "v"))
			w.must(err)
			w.addProject([]string{"", "two", "three"}[i])
			_, err = w.EnsureRuntime(ctx, warpket.Runtime{ID: newID(), RuntimeKey: warpket.RuntimeKey{SDK: []string{"", "b", "c"}[i]}, CreatedDate: now()})
			w.must(err)
		}
	}
	for name, list := range map[string]func(postgres.Page) ([]warpket.ID, string, error){
		"functions": func(p postgres.Page) ([]warpket.ID, string, error) {
			l, next, err := w.Functions(ctx, w.project, postgres.FunctionFilter{TemplateTag: warpket.Condition{Op: warpket.Eq, Values: []string{"Qiskit"}}}, p)
			return ids(l, func(x warpket.Function) warpket.ID { return x.ID }), next, err
		},
		"versions": func(p postgres.Page) ([]warpket.ID, string, error) {
			l, next, err := w.Versions(ctx, w.project, f.ID, postgres.VersionFilter{}, p)
			return ids(l, func(x warpket.Version) warpket.ID { return x.ID }), next, err
		},
		"deployments": func(p postgres.Page) ([]warpket.ID, string, error) {
			l, next, err := w.Deployments(ctx, w.project, postgres.DeploymentFilter{}, p)
			return ids(l, func(x warpket.Deployment) warpket.ID { return x.ID }), next, err
		},
		"nodes": func(p postgres.Page) ([]warpket.ID, string, error) {
			l, next, err := w.Nodes(ctx, postgres.NodeFilter{}, p)
			return ids(l, func(x warpket.Node) warpket.ID { return x.ID }), next, err
		},
		"tokens": func(p postgres.Page) ([]warpket.ID, string, error) {
			l, next, err := w.Tokens(ctx, w.project, postgres.TokenFilter{}, p)
			return ids(l, func(x warpket.Token) warpket.ID { return x.ID }), next, err
		},
		"projects": func(p postgres.Page) ([]warpket.ID, string, error) {
			l, next, err := w.Projects(ctx, warpket.Condition{}, p)
			return ids(l, func(x warpket.Project) warpket.ID { return x.ID }), next, err
		},
		"runtimes": func(p postgres.Page) ([]warpket.ID, string, error) {
			l, next, err := w.Runtimes(ctx, w.project, postgres.RuntimeFilter{}, p)
			return ids(l, func(x warpket.Runtime) warpket.ID { return x.ID }), next, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, next, err := list(postgres.Page{Limit: 2})
			if len(first) != 2 || next == "" || err != nil {
				t.Fatalf("the first page has %d, next %q (%v)", len(first), next, err)
			}
			second, next, err := list(postgres.Page{Limit: 2, Cursor: next})
			if len(second) != 1 || next != "" || err != nil {
				t.Fatalf("the second page has %d, next %q (%v)", len(second), next, err)
			}
			if first[0] <= first[1] || first[1] <= second[0] {
				t.Errorf("not newest first: %v %v", first, second)
			}
		})
	}
}

func ids[T any](list []T, id func(T) warpket.ID) []warpket.ID {
	var out []warpket.ID
	for _, x := range list {
		out = append(out, id(x))
	}
	return out
}

func TestListenHearsWhatIsCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	e := w.addExecution(f, v)
	type change struct {
		Topic postgres.Topic
		ID    warpket.ID
	}
	heard := make(chan change, 100)
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- w.Listen(ctx, func() { close(ready) }, func(topic postgres.Topic, id warpket.ID) { heard <- change{topic, id} })
	}()
	<-ready

	wantKind(t, w.AdvanceDeployment(t.Context(), d.ID, warpket.DeploymentReady, "", now()), warpket.Conflict) // not committed, not heard
	w.must(w.AdvanceDeployment(t.Context(), d.ID, warpket.DeploymentPlacing, "", now()))
	node := w.addNode("n", inventory(4, 4))
	slot := w.lease(newSlot(node, v))
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation))
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation)) // gave nothing back
	w.must(w.WakeElsewhere(t.Context(), e.ID))
	_, err := w.SaveRuntime(t.Context(), w.runtime.ID, warpket.RuntimeBuilding, "", "", now())
	w.must(err)
	w.exec(`update nodes set lease_until = now() - interval '1 second'`)
	_, _, err = w.LoseSilentNodes(t.Context())
	w.must(err)

	for _, want := range []change{
		{postgres.DeploymentChanged, d.ID},
		{postgres.NodeChanged, node.ID},
		{postgres.CapacityFreed, node.ID}, // a node is up
		{postgres.CapacityFreed, node.ID}, // a slot is free
		{postgres.ExecutionWoken, e.ID},
		{postgres.RuntimeChanged, w.runtime.ID},
		{postgres.NodeChanged, node.ID},
	} {
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("heard %v, want %v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("heard nothing of %v", want)
		}
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it ended without saying why")
	}
}

func TestARuntimeWithRequirementsIsSeenByItsProjectOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	stranger := w.addProject("two")
	add := func(project warpket.ID) warpket.Runtime {
		t.Helper()
		r := w.runtime.Requiring(project, []string{"scipy", "six==1.16.0"})
		r.ID = newID()
		r, err := w.EnsureRuntime(ctx, r)
		w.must(err)
		return r
	}
	mine, theirs := add(w.project), add(stranger)
	if again := add(w.project); again.ID != mine.ID {
		t.Errorf("the same requirements are another runtime: %+v", again)
	}
	if mine.ID == theirs.ID || mine.ProjectID != w.project || !slices.Equal(mine.Lines, []string{"scipy", "six==1.16.0"}) {
		t.Errorf("mine is %+v, theirs %+v", mine, theirs)
	}
	for project, want := range map[warpket.ID][]warpket.ID{w.project: {mine.ID, w.runtime.ID}, stranger: {theirs.ID, w.runtime.ID}} {
		list, _, err := w.Runtimes(ctx, project, postgres.RuntimeFilter{}, postgres.Page{Limit: 10})
		w.must(err)
		var got []warpket.ID
		for _, r := range list {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("it sees %v, want %v", got, want)
		}
	}
	_, err := w.ProjectRuntime(ctx, stranger, mine.ID)
	wantKind(t, err, warpket.NotFound)
	for _, id := range []warpket.ID{mine.ID, w.runtime.ID} {
		_, err := w.ProjectRuntime(ctx, w.project, id)
		w.must(err)
	}
}
