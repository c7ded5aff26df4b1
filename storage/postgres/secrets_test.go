package postgres_test

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// What is there may be changed, whatever it is.
func anyEnvironment(warpket.Environment) error { return nil }
func anySecret(warpket.StoredSecret) error     { return nil }

func (w *world) addSecret(project warpket.ID, name, sealed string) warpket.StoredSecret {
	w.t.Helper()
	s := warpket.StoredSecret{ID: newID(), ProjectID: project, Name: name, UsedBy: []string{}, CreatedDate: now()}
	s.UpdatedDate = s.CreatedDate
	w.must(w.CreateSecret(w.t.Context(), s, postgres.Sealed{Ciphertext: []byte(sealed), Size: len(sealed)}))
	return s
}

func (w *world) setSecrets(f warpket.Function, secrets map[string]string) {
	w.t.Helper()
	w.must(w.SetEnvironment(w.t.Context(), f.ProjectID, f.ID, warpket.Environment{Secrets: secrets}, now(), anyEnvironment))
}

func (w *world) revision(f warpket.Function) int {
	w.t.Helper()
	f, err := w.Function(w.t.Context(), f.ProjectID, f.ID)
	w.must(err)
	return f.Revision
}

func TestAProjectHasOneKeyHoweverManyMakeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var keys counter
	race(10, func(i int) {
		key, err := w.ProjectKey(t.Context(), w.project, func() ([]byte, error) { return []byte{byte(i)}, nil })
		if err != nil {
			t.Error(err)
		}
		keys.add(string(key))
	})
	if len(keys.n) != 1 {
		t.Errorf("there are %d", len(keys.n))
	}
	old := []byte(slices.Collect(func(yield func(string) bool) {
		for k := range keys.n {
			yield(k)
		}
	})[0])
	w.must(w.RewrapProjectKey(t.Context(), w.project, []byte("another"), []byte("late")))
	w.must(w.RewrapProjectKey(t.Context(), w.project, old, []byte("anew")))
	key, err := w.ProjectKey(t.Context(), w.project, nil)
	if err != nil || string(key) != "anew" {
		t.Errorf("it is %q (%v)", key, err)
	}
	_, err = w.ProjectKey(t.Context(), newID(), func() ([]byte, error) { return []byte{1}, nil })
	wantKind(t, err, warpket.Conflict)
}

func TestASecretTellsItsUsersAndStaysWhileItHasAny(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	g, _ := w.addFunction(w.project, "ghz")
	secret := w.addSecret(w.project, "TOKEN", "x")
	w.must(w.CreateSecret(ctx, secret, postgres.Sealed{Ciphertext: []byte("again"), Size: 5})) // does nothing
	wantKind(t, w.CreateSecret(ctx, warpket.StoredSecret{ID: newID(), ProjectID: w.project, Name: "TOKEN", CreatedDate: now()}, postgres.Sealed{Ciphertext: []byte("y")}), warpket.Conflict)
	w.setSecrets(f, map[string]string{"A": "TOKEN", "B": "TOKEN"})
	w.setSecrets(g, map[string]string{"A": "TOKEN"})

	secret.UsedBy = []string{"bell", "ghz"}
	got, err := w.Secret(ctx, w.project, "TOKEN")
	w.must(err)
	if diff := cmp.Diff(secret, got); diff != "" {
		t.Error(diff)
	}
	err = w.DeleteSecret(ctx, w.project, "TOKEN")
	if warpket.KindOf(err) != warpket.Conflict || !strings.Contains(err.Error(), "bell, ghz") {
		t.Errorf("deleting it: %v", err)
	}
	w.setSecrets(f, nil)
	_, err = w.DeleteFunction(ctx, w.project, g.ID, false)
	w.must(err)
	w.must(w.DeleteSecret(ctx, w.project, "TOKEN"))
	wantKind(t, w.DeleteSecret(ctx, w.project, "TOKEN"), warpket.NotFound)
}

func TestCredentialsAreAUseOfASecretInTheirProjectOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	w.addSecret(w.project, "REGISTRY", "sealed")
	stranger := w.addProject("two")
	w.addSecret(stranger, "REGISTRY", "other")
	credentials := func(name string) {
		_, err := w.UpdateFunction(ctx, w.project, f.ID, now(), func(f *warpket.Function) error { f.Settings.Credentials = name; return nil })
		w.must(err)
	}
	credentials("REGISTRY")
	if s, err := w.Secret(ctx, w.project, "REGISTRY"); err != nil || len(s.UsedBy) != 1 || s.UsedBy[0] != "bell" {
		t.Errorf("used by %v, %v", s.UsedBy, err)
	}
	if sealed, err := w.SealedSecret(ctx, w.project, "REGISTRY"); err != nil || string(sealed) != "sealed" {
		t.Errorf("it is %s, %v", sealed, err)
	}
	wantKind(t, w.DeleteSecret(ctx, w.project, "REGISTRY"), warpket.Conflict)
	w.must(w.DeleteSecret(ctx, stranger, "REGISTRY"))
	credentials("")
	w.must(w.DeleteSecret(ctx, w.project, "REGISTRY"))
}

func TestAProjectUsesNoSecretOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	w.addSecret(w.project, "TOKEN", "x")
	stranger := w.addProject("two")
	g, _ := w.addFunction(stranger, "bell")
	for name, call := range map[string]func() error{
		"opening": func() error { _, err := w.SealedSecret(ctx, stranger, "TOKEN"); return err },
		"reading": func() error { _, err := w.Secret(ctx, stranger, "TOKEN"); return err },
		"changing": func() error {
			_, err := w.ChangeSecret(ctx, stranger, "TOKEN", postgres.Sealed{}, now(), anySecret)
			return err
		},
		"deleting":    func() error { return w.DeleteSecret(ctx, stranger, "TOKEN") },
		"environment": func() error { _, err := w.Environment(ctx, stranger, f.ID); return err },
		"setting it": func() error {
			return w.SetEnvironment(ctx, stranger, f.ID, warpket.Environment{}, now(), anyEnvironment)
		},
	} {
		wantKind(t, call(), warpket.NotFound)
		_ = name
	}
	wantKind(t, w.SetEnvironment(ctx, stranger, g.ID, warpket.Environment{Secrets: map[string]string{"A": "TOKEN"}}, now(), anyEnvironment), warpket.Invalid)
	if list, _, err := w.Secrets(ctx, stranger, warpket.Condition{}, postgres.Page{Limit: 5}); len(list) != 0 || err != nil {
		t.Errorf("it sees %v (%v)", list, err)
	}
	w.addSecret(stranger, "TOKEN", "theirs")
	w.setSecrets(g, map[string]string{"A": "TOKEN"})
	c, err := w.Configuration(ctx, g.ID)
	w.must(err)
	if len(c.Secrets) != 1 || string(c.Secrets[0].Ciphertext) != "theirs" {
		t.Errorf("it gets %+v", c.Secrets)
	}
}

func TestOnlyWhatChangesAnEnvironmentRevisesAFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	other, _ := w.addFunction(w.project, "ghz")
	w.addSecret(w.project, "TOKEN", "x")
	e := warpket.Environment{Variables: map[string]string{"N": "1"}, Secrets: map[string]string{"A": "TOKEN"}}
	steps := []struct {
		name string
		do   func() error
		want int
	}{
		{"setting it", func() error { return w.SetEnvironment(ctx, w.project, f.ID, e, now(), anyEnvironment) }, 1},
		{"setting it again", func() error { return w.SetEnvironment(ctx, w.project, f.ID, e, now(), anyEnvironment) }, 1},
		{"another value of the secret", func() error {
			_, err := w.ChangeSecret(ctx, w.project, "TOKEN", postgres.Sealed{Ciphertext: []byte("y"), Size: 1}, now(), anySecret)
			return err
		}, 2},
		{"a retry more", func() error {
			_, err := w.UpdateFunction(ctx, w.project, f.ID, now(), func(f *warpket.Function) error { f.Settings.Retries++; return nil })
			return err
		}, 2},
		{"no reuse", func() error {
			_, err := w.UpdateFunction(ctx, w.project, f.ID, now(), func(f *warpket.Function) error { f.Settings.Reuse = warpket.ReuseNone; return nil })
			return err
		}, 3},
	}
	for _, step := range steps {
		w.must(step.do())
		if got := w.revision(f); got != step.want {
			t.Errorf("after %s the revision is %d, want %d", step.name, got, step.want)
		}
	}
	if got := w.revision(other); got != 0 {
		t.Errorf("the other function has revision %d", got)
	}
	got, err := w.Environment(ctx, w.project, f.ID)
	w.must(err)
	if diff := cmp.Diff(e, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnEnvironmentIsBoundedWithTheValuesOfItsSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	large := strings.Repeat("x", 60<<10)
	for _, name := range []string{"ONE", "TWO", "THREE"} {
		w.addSecret(w.project, name, large)
	}
	w.addSecret(w.project, "SMALL", "x")
	wantKind(t, w.SetEnvironment(ctx, w.project, f.ID, warpket.Environment{Secrets: map[string]string{"A": "ONE", "B": "TWO", "C": "THREE"}}, now(), anyEnvironment), warpket.Invalid)
	if got := w.revision(f); got != 0 {
		t.Errorf("what was refused has made revision %d", got)
	}
	w.setSecrets(f, map[string]string{"A": "ONE", "B": "TWO", "C": "SMALL"})
	_, err := w.ChangeSecret(ctx, w.project, "SMALL", postgres.Sealed{Ciphertext: []byte(large), Size: len(large)}, now(), anySecret)
	wantKind(t, err, warpket.Invalid)
	c, err := w.Configuration(ctx, f.ID)
	w.must(err)
	for _, s := range c.Secrets {
		if s.Variable == "C" && !bytes.Equal(s.Ciphertext, []byte("x")) {
			t.Error("the value that was refused is there")
		}
	}
}

// What is read at one revision must be the same whenever it is read, or a slot
// could keep an old value and count as new.
func TestARevisionStandsForOneConfigurationWhateverHappensAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, _ := w.addFunction(w.project, "bell")
	w.addSecret(w.project, "TOKEN", "v")
	var mu sync.Mutex
	seen := map[int]string{}
	retried := func(err error) { // a loser of two that wait for each other tries again
		if k := warpket.KindOf(err); err != nil && k != warpket.Unavailable {
			t.Error(err)
		}
	}
	var writing atomic.Int32
	writing.Store(8)
	race(12, func(i int) {
		if i%3 < 2 {
			defer writing.Add(-1)
		}
		for n := 0; i%3 == 2 && writing.Load() > 0 || n < 15; n++ { // who reads goes on until nothing changes any more
			switch i % 3 {
			case 0:
				e := warpket.Environment{}
				if n%2 == 0 {
					e.Secrets = map[string]string{"A": "TOKEN"}
				}
				retried(w.SetEnvironment(ctx, w.project, f.ID, e, now(), anyEnvironment))
			case 1:
				_, err := w.ChangeSecret(ctx, w.project, "TOKEN", postgres.Sealed{Ciphertext: []byte{byte(i), byte(n)}, Size: 2}, now(), anySecret)
				retried(err)
			default:
				c, err := w.Configuration(ctx, f.ID)
				if err != nil {
					t.Error(err)
					return
				}
				value := "none"
				for _, s := range c.Secrets {
					value = string(s.Ciphertext)
				}
				mu.Lock()
				if old, ok := seen[c.Function.Revision]; ok && old != value {
					t.Errorf("revision %d was %q and is %q", c.Function.Revision, old, value)
				}
				seen[c.Function.Revision] = value
				mu.Unlock()
			}
		}
	})
	if len(seen) < 2 {
		t.Errorf("only %d revisions were seen", len(seen))
	}
}

func TestAnExecutionKeepsTheRevisionAtWhichItWasAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	e := newExecution(f, v)
	e.Revision = 2
	_, err := w.CreateExecution(t.Context(), e)
	w.must(err)
	if got := w.execution(e.ID); got.Revision != 2 {
		t.Errorf("it has revision %d", got.Revision)
	}
}

func TestSlotsOfAnEarlierRevisionAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	f, v := w.addFunction(w.project, "bell")
	_, otherVersion := w.addFunction(w.project, "ghz")
	d := w.addDeployment(f, v)
	node := w.addNode("n", inventory(8, 8))
	deployed := newSlot(node, v)
	deployed.DeploymentID = d.ID
	var onDemand warpket.Slot
	for _, slot := range []warpket.Slot{deployed, newSlot(node, otherVersion), newSlot(node, v)} {
		onDemand = w.lease(slot)
		w.must(w.SlotIsReady(ctx, onDemand.ID, onDemand.Generation, 0))
	}
	w.lease(newSlot(node, v)) // one that is being prepared: its revision is not decided
	for _, to := range []warpket.DeploymentStatus{warpket.DeploymentPlacing, warpket.DeploymentReady} {
		w.must(w.AdvanceDeployment(ctx, d.ID, to, "", now()))
	}
	check := func(want []warpket.ID, unsettled, ready int) {
		t.Helper()
		for _, function := range []warpket.ID{"", f.ID} {
			slots, err := w.OutdatedSlots(ctx, function)
			w.must(err)
			var got []warpket.ID
			for _, s := range slots {
				got = append(got, s.ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		ids, err := w.UnsettledDeployments(ctx)
		w.must(err)
		got, err := w.DeploymentByID(ctx, d.ID)
		w.must(err)
		if len(ids) != unsettled || got.Ready != ready {
			t.Errorf("unsettled are %v; %d slots are ready", ids, got.Ready)
		}
	}
	check(nil, 0, 1)
	w.must(w.SetEnvironment(ctx, w.project, f.ID, warpket.Environment{Variables: map[string]string{"A": "1"}}, now(), anyEnvironment))
	check([]warpket.ID{onDemand.ID}, 1, 0)
	ids, err := w.FunctionDeployments(ctx, f.ID)
	if err != nil || !slices.Equal(ids, []warpket.ID{d.ID}) {
		t.Errorf("its deployments are %v (%v)", ids, err)
	}
}

// Who deploys a function has it locked, and then its project.
func TestANetworkIsWithdrawnWhileAFunctionIsDeployed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	allow := func(may bool) func(*warpket.Project) error {
		return func(p *warpket.Project) error { p.AllowEgress = may; return nil }
	}
	_, err := w.UpdateProject(ctx, "one", now(), allow(true))
	w.must(err)
	f, v := w.addFunction(w.project, "reaching")
	f, err = w.UpdateFunction(ctx, w.project, f.ID, now(), func(f *warpket.Function) error { f.Settings.Network = warpket.Egress; return nil })
	w.must(err)
	d := w.addDeployment(f, v)
	locked := map[string]string{
		"a function":   `select id::text from functions where id = '` + string(f.ID) + `' for share`,
		"a deployment": `select id::text from deployments where id = '` + string(d.ID) + `' for update`,
	}
	for what, lock := range locked {
		w.exec(`update deployments set status = 'ready', slots = 1 where id = $1`, d.ID) // such are degraded
		w.conn(func(conn *pgx.Conn) {
			tx, err := conn.Begin(ctx)
			w.must(err)
			var id string
			w.must(tx.QueryRow(ctx, lock).Scan(&id))
			withdrawn := make(chan error)
			go func() {
				_, err := w.UpdateProject(ctx, "one", now(), allow(false))
				withdrawn <- err
			}()
			w.until(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`, 1)
			if _, err := tx.Exec(ctx, `select from projects where id = $1 for no key update`, w.project); err != nil {
				t.Errorf("with %s locked, its project cannot be: %v", what, err)
			}
			w.must(tx.Rollback(ctx))
			if err := <-withdrawn; err != nil {
				t.Errorf("with %s locked: %v", what, err)
			}
		})
		_, err := w.UpdateProject(ctx, "one", now(), allow(true))
		w.must(err)
	}
}

func TestAFunctionHasTheNetworkOnlyIfItsProjectMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	egress := func(f *warpket.Function) error {
		f.Settings.Network = warpket.Egress
		return f.Settings.Check()
	}
	allow := func(may bool) func(*warpket.Project) error {
		return func(p *warpket.Project) error { p.AllowEgress = may; return nil }
	}
	create := func() error {
		f := w.newFunction(w.project, "reaching")
		_ = egress(&f)
		return w.CreateFunction(ctx, f, w.version(w.project, f.ID, "# reaching"))
	}
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	other, _ := w.addFunction(w.project, "ghz")

	wantKind(t, create(), warpket.Denied)
	_, err := w.UpdateFunction(ctx, w.project, f.ID, now(), egress)
	wantKind(t, err, warpket.Denied)
	if err != nil && !strings.Contains(err.Error(), "allowEgress") {
		t.Errorf("it does not say what to ask for: %v", err)
	}
	p, err := w.UpdateProject(ctx, "one", now(), allow(true))
	if err != nil || !p.AllowEgress {
		t.Fatalf("%+v, %v", p, err)
	}
	w.must(create())
	f, err = w.UpdateFunction(ctx, w.project, f.ID, now(), egress)
	w.must(err)
	if f.Settings.Network != warpket.Egress || f.Revision != 1 || w.revision(f) != 1 {
		t.Errorf("it is %+v", f)
	}
	// It goes with what a slot asks of a node, also with that of a deployment older than it.
	if f, err = w.Function(ctx, w.project, f.ID); err != nil || f.Settings.Resources.Network != warpket.Egress {
		t.Errorf("it asks for the network %q (%v)", f.Settings.Resources.Network, err)
	}
	if d, err = w.DeploymentByID(ctx, d.ID); err != nil || d.Resources.Network != warpket.Egress {
		t.Errorf("its deployment asks for the network %q (%v)", d.Resources.Network, err)
	}

	_, err = w.UpdateProject(ctx, string(w.project), now(), allow(false))
	w.must(err)
	if w.revision(f) != 2 || w.revision(other) != 0 {
		t.Errorf("after it was withdrawn the revisions are %d and %d", w.revision(f), w.revision(other))
	}
	c, err := w.Configuration(ctx, f.ID)
	if err != nil || c.AllowEgress || c.Function.Settings.Network != warpket.Egress {
		t.Errorf("its configuration is %+v (%v)", c, err)
	}
	_, err = w.UpdateFunction(ctx, w.project, f.ID, now(), func(f *warpket.Function) error { f.Description = "still editable"; return nil })
	w.must(err)
	_, err = w.UpdateProject(ctx, "nobody", now(), allow(true))
	wantKind(t, err, warpket.NotFound)
}
