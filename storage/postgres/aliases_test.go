package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func (w *world) newAlias(name string, f warpket.Function, routes ...warpket.Route) warpket.Alias {
	at := now()
	return warpket.Alias{ID: newID(), ProjectID: f.ProjectID, Name: name, Description: "of " + f.Name, FunctionID: f.ID, Routes: routes, CreatedDate: at, UpdatedDate: at}
}

// addAlias adds an alias for one version.
func (w *world) addAlias(name string, f warpket.Function, version int) warpket.Alias {
	w.t.Helper()
	a := w.newAlias(name, f, warpket.Route{Version: version, Weight: 1})
	w.must(w.CreateAlias(w.t.Context(), a))
	return a
}

func (w *world) newWebhook(f warpket.Function) warpket.Webhook {
	at := now()
	return warpket.Webhook{ID: newID(), ProjectID: f.ProjectID, FunctionID: f.ID, Executes: f.ID, RatePerMinute: 60, CreatedDate: at, UpdatedDate: at}
}

func (w *world) publishCode(f warpket.Function, content string) warpket.Version {
	w.t.Helper()
	v, err := w.Publish(w.t.Context(), w.version(f.ProjectID, f.ID, content))
	w.must(err)
	return v
}

func TestAnAliasComesBackAsItWasCreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.publishCode(f, "second")
	a := w.newAlias("prod", f, warpket.Route{Version: 2, Weight: 9}, warpket.Route{Version: 1, Weight: 0}, warpket.Route{Version: warpket.DraftNumber, Weight: 1})
	w.must(w.CreateAlias(t.Context(), a))
	w.must(w.CreateAlias(t.Context(), a)) // as a repeated request does
	got, err := w.Alias(t.Context(), w.project, "prod")
	if diff := cmp.Diff(a, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	err = w.CreateAlias(t.Context(), w.newAlias("prod", f, warpket.Route{Version: 1, Weight: 1}))
	wantKind(t, err, warpket.Conflict)
	other, _ := w.addFunction(w.addProject("two"), "bell")
	w.must(w.CreateAlias(t.Context(), w.newAlias("prod", other, warpket.Route{Version: 1, Weight: 1})))
}

func TestAnAliasForWhatIsNotLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	err := w.CreateAlias(t.Context(), w.newAlias("prod", f, warpket.Route{Version: 1, Weight: 1}, warpket.Route{Version: 7, Weight: 1}))
	wantKind(t, err, warpket.Invalid)
	if e, ok := errors.AsType[*warpket.Error](err); !ok || e.Field != "versions[1].version" || !strings.Contains(e.Message, "no version 7") {
		t.Errorf("the error is %+v", err)
	}
	stranger := f
	stranger.ProjectID = w.addProject("two")
	wantKind(t, w.CreateAlias(t.Context(), w.newAlias("theirs", stranger, warpket.Route{Version: 1, Weight: 1})), warpket.NotFound)
	if n := w.count(`select count(*) from aliases`); n != 0 {
		t.Errorf("%d aliases are left", n)
	}
	w.addAlias("prod", f, 1)
	_, err = w.UpdateAlias(t.Context(), w.project, "prod", now(), func(a *warpket.Alias) error {
		a.Routes = []warpket.Route{{Version: 7, Weight: 1}}
		return nil
	})
	wantKind(t, err, warpket.Invalid)
	if a, err := w.Alias(t.Context(), w.project, "prod"); err != nil || a.Routes[0].Version != 1 {
		t.Errorf("a change that was refused left %+v (%v)", a, err)
	}
}

func TestUpdatesOfAnAliasTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.publishCode(f, "second")
	w.addAlias("prod", f, 1)
	race(8, func(int) {
		_, err := w.UpdateAlias(t.Context(), w.project, "prod", now(), func(a *warpket.Alias) error {
			weight := a.Routes[0].Weight + 1
			a.Routes = []warpket.Route{{Version: 1 + weight%2, Weight: weight}}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	a, err := w.Alias(t.Context(), w.project, "prod")
	w.must(err)
	if want := []warpket.Route{{Version: 2, Weight: 9}}; !slices.Equal(a.Routes, want) {
		t.Errorf("it stands for %v, want %v", a.Routes, want)
	}
}

func TestAnAliasMovesToAnotherFunctionWithItsVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.publishCode(f, "second")
	g, _ := w.addFunction(w.project, "ghz")
	w.addAlias("prod", f, 2)
	move := func(version int) error {
		_, err := w.UpdateAlias(t.Context(), w.project, "prod", now(), func(a *warpket.Alias) error {
			a.FunctionID, a.Routes = g.ID, []warpket.Route{{Version: version, Weight: 1}}
			return nil
		})
		return err
	}
	wantKind(t, move(2), warpket.Invalid)
	w.must(move(1))
	if a, err := w.Alias(t.Context(), w.project, "prod"); err != nil || a.FunctionID != g.ID || a.Routes[0].Version != 1 {
		t.Errorf("it is %+v (%v)", a, err)
	}
}

func TestAliasesAreListedByWhatTheyStandFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.publishCode(f, "second")
	g, _ := w.addFunction(w.project, "ghz")
	w.addAlias("one", f, 1)
	w.must(w.CreateAlias(t.Context(), w.newAlias("both", f, warpket.Route{Version: 1, Weight: 1}, warpket.Route{Version: 2, Weight: 1})))
	w.addAlias("draft", f, warpket.DraftNumber)
	w.addAlias("other", g, 1)
	for want, filter := range map[string]postgres.AliasFilter{
		"both draft one other": {},
		"both draft one":       {FunctionID: f.ID},
		"both one":             {FunctionID: f.ID, Version: new(1)},
		"both":                 {FunctionID: f.ID, Version: new(2)},
		"draft":                {FunctionID: f.ID, Version: new(warpket.DraftNumber)},
	} {
		items, _, err := w.Aliases(t.Context(), w.project, filter, postgres.Page{Limit: 10})
		w.must(err)
		var names []string
		for _, a := range items {
			names = append(names, a.Name)
		}
		slices.Sort(names) // those of one millisecond are in no order
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%+v gives %q, want %q", filter, got, want)
		}
	}
	first, next, err := w.Aliases(t.Context(), w.project, postgres.AliasFilter{}, postgres.Page{Limit: 3})
	w.must(err)
	rest, end, err := w.Aliases(t.Context(), w.project, postgres.AliasFilter{}, postgres.Page{Limit: 3, Cursor: next})
	if err != nil || len(first) != 3 || len(rest) != 1 || end != "" {
		t.Errorf("the pages have %d and %d (%v)", len(first), len(rest), err)
	}
}

func TestAVersionThatIsPointedAtStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.publishCode(f, "second")
	w.publishCode(f, "third")
	w.addAlias("prod", f, 2)
	hook := w.newWebhook(f)
	hook.Version = new(2)
	w.must(w.CreateWebhook(t.Context(), hook))
	for _, name := range []string{"aliases prod", "webhooks " + string(hook.ID)} {
		err := w.DeleteVersion(t.Context(), w.project, f.ID, 2, now(), func(warpket.Version) error { return nil })
		if warpket.KindOf(err) != warpket.Conflict || !strings.Contains(err.Error(), name) {
			t.Errorf("deleting what %s point at: %v", name, err)
		}
		_ = w.DeleteAlias(t.Context(), w.project, "prod", always[warpket.Alias]) // the second time there is none
	}
	// Whatever asks before it deletes, the database refuses.
	for number, free := range map[int]bool{2: false, 3: true} {
		w.conn(func(conn *pgx.Conn) {
			_, err := conn.Exec(t.Context(), `delete from versions where function_id = $1 and number = $2`, f.ID, number)
			if (err == nil) != free {
				t.Errorf("deleting version %d: %v", number, err)
			}
		})
	}
}

func TestAnAliasThatAWebhookExecutesStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.addAlias("prod", f, 1)
	hook := w.newWebhook(f)
	hook.FunctionID, hook.Alias = "", "prod"
	w.must(w.CreateWebhook(t.Context(), hook))
	wantKind(t, w.DeleteAlias(t.Context(), w.project, "prod", always[warpket.Alias]), warpket.Conflict)
	w.must(w.DeleteWebhook(t.Context(), w.project, hook.ID, always[warpket.Webhook]))
	w.must(w.DeleteAlias(t.Context(), w.project, "prod", always[warpket.Alias]))
	wantKind(t, w.DeleteAlias(t.Context(), w.project, "prod", always[warpket.Alias]), warpket.NotFound)
}

func TestAliasesAndWebhooksGoWithTheirFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.addAlias("prod", f, 1)
	byFunction, byAlias := w.newWebhook(f), w.newWebhook(f)
	byFunction.Version = new(1)
	byAlias.FunctionID, byAlias.Alias = "", "prod"
	w.must(w.CreateWebhook(t.Context(), byFunction))
	w.must(w.CreateWebhook(t.Context(), byAlias))
	other, _ := w.addFunction(w.project, "ghz")
	w.addAlias("stays", other, 1)
	_, err := w.DeleteFunction(t.Context(), w.project, f.ID, false)
	w.must(err)
	if a, h := w.count(`select count(*) from aliases`), w.count(`select count(*) from webhooks`); a != 1 || h != 0 {
		t.Errorf("%d aliases and %d webhooks are left", a, h)
	}
}

func TestExecutionsAreListedByTheAliasThatAskedForThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	w.addExecution(f, v)
	named := newExecution(f, v)
	named.Alias, named.Origin = "prod", warpket.Origin{Kind: warpket.FromWebhook, ID: newID()}
	_, err := w.CreateExecution(t.Context(), named)
	w.must(err)
	for alias, want := range map[string]int{"prod": 1, "other": 0, "": 2} {
		items, _, err := w.Executions(t.Context(), w.project, postgres.ExecutionFilter{Alias: alias}, postgres.Page{Limit: 10})
		if err != nil || len(items) != want {
			t.Errorf("%q gives %d (%v), want %d", alias, len(items), err, want)
		}
	}
	if e := w.execution(named.ID); e.Alias != "prod" || e.Origin != named.Origin {
		t.Errorf("it came from %q and %+v", e.Alias, e.Origin)
	}
}
