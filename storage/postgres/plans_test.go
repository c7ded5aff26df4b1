package postgres_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/teststack"
)

// filling fills all tables that a list reads: most of it in one project, so
// that whatever looks through a table or a project is seen to.
//
//go:embed testdata/filling.sql
var filling string

// The IDs that filling.sql gives.
const (
	fillProject   = warpket.ID("00000000-0000-7000-8000-000000000001")
	fillFunction  = warpket.ID("00000000-0000-7000-8000-0000000000f1") // has 12,000 of everything that a function has
	fillToken     = warpket.ID("00000000-0000-7000-8000-0000000000b1")
	fillExecution = warpket.ID("00000000-0000-7000-8000-0000000000e1") // was retried
	nobody        = warpket.ID("00000000-0000-7000-8000-0000000000ff")
)

// mayLook is how many rows a page may look at in all tables: as many as a list
// looks at where no index knows what fits, and a few for each item.
const mayLook = postgres.MaxLooked + 1500

// bounded are lists of what a project has so few of, by its quotas and by its
// nature, that all of it may be looked at where no index knows what fits: in the
// order of an index, which is that of the primary key where the project has half
// of a table, as here. A list of runtimes looks at two rows for each.
var bounded = []string{"Functions", "Aliases", "Webhooks", "Schedules", "Deployments", "Runtimes", "Versions", "Members", "Projects", "Secrets", "Tokens", "UsageByFunction", "UsageByDay", "Nodes", "Devices"}

// list is a list method of the store with values for each field of its filter.
type list struct {
	filters []any // one at a time, and in pairs
	call    func(filter any, page postgres.Page) (next string, err error)
}

// listOf describes a list method whose filter is an F. It has values for every
// field of it.
func listOf[F, T any](t *testing.T, values map[string][]any, call func(F, postgres.Page) ([]T, string, error)) list {
	t.Helper()
	kind := reflect.TypeFor[F]()
	if kind.NumField() != len(values) {
		t.Errorf("%s has %d fields, and the test has values for %d", kind, kind.NumField(), len(values))
	}
	with := func(f F, field string, value any) F {
		reflect.ValueOf(&f).Elem().FieldByName(field).Set(reflect.ValueOf(value))
		return f
	}
	var zero F
	l := list{filters: []any{zero}}
	fields := slices.Sorted(maps.Keys(values))
	for i, field := range fields {
		for _, value := range values[field] {
			one := with(zero, field, value)
			l.filters = append(l.filters, one)
			for _, other := range fields[i+1:] {
				l.filters = append(l.filters, with(one, other, values[other][0]))
			}
		}
	}
	l.call = func(filter any, page postgres.Page) (string, error) {
		f, _ := filter.(F)
		_, next, err := call(f, page)
		return next, err
	}
	return l
}

func TestNoListLooksThroughATable(t *testing.T) {
	t.Parallel()
	url := teststack.Postgres(t)
	seen := &seen{}
	s, err := postgres.OpenTraced(t.Context(), url, seen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(t.Context(), filling); err != nil {
		t.Fatal(err)
	}
	lists := allLists(t, s)
	store := reflect.TypeFor[*postgres.Store]()
	for m := range store.Methods() {
		for in := range m.Type.Ins() {
			if in == reflect.TypeFor[postgres.Page]() && lists[m.Name].call == nil {
				t.Errorf("%s is a list that this test does not know", m.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		l := lists[name]
		for i, filter := range l.filters {
			page := postgres.Page{Limit: 50}
			for range 2 {
				seen.take()
				next, err := l.call(filter, page)
				if err != nil {
					t.Fatalf("%s of %+v: %v", name, filter, err)
				}
				for _, s := range seen.take() {
					most := mayLook
					if i > 0 && slices.Contains(bounded, name) {
						most = 4*12_000 + 1500
					}
					if problem := s.look(t, conn, most); problem != "" {
						t.Errorf("%s of %+v, page %q: %s\n%s\n%v", name, filter, page.Cursor, problem, s.sql, s.args)
					}
				}
				if page.Cursor = next; next == "" {
					break
				}
			}
		}
	}
}

// allLists are the methods of the store that take a page, and those that list
// without.
func allLists(t *testing.T, s *postgres.Store) map[string]list {
	t.Helper()
	ctx := t.Context()
	is := func(op warpket.Op, values ...string) warpket.Condition {
		return warpket.Condition{Op: op, Values: values}
	}
	one, none := 1, 999_999
	failed := []warpket.Status{warpket.Failed, warpket.TimedOut, warpket.Lost}
	all := func(but warpket.Status) []warpket.Status {
		return slices.DeleteFunc(slices.Clone(warpket.Statuses), func(s warpket.Status) bool { return s == but })
	}
	yes, no := true, false
	long, recently := time.Now().AddDate(0, 0, -50), time.Now().AddDate(0, 0, -2)
	type nothing struct{}
	type named struct{ Name warpket.Condition }
	names := func(one string) map[string][]any {
		return map[string][]any{"Name": {is(warpket.Eq, one), is(warpket.Has, "nothing"), is(warpket.In, one, "nothing"), is(warpket.Neq, one)}}
	}
	return map[string]list{
		"Functions": listOf(t, map[string][]any{
			"Name":        {is(warpket.Eq, "f-77"), is(warpket.Has, "f-77"), is(warpket.Has, "qq"), is(warpket.In, "f-1", "f-2"), is(warpket.Neq, "f-3")},
			"Label":       {is(warpket.Eq, "label 3"), is(warpket.Has, "label"), is(warpket.Eq, "nothing")},
			"Description": {is(warpket.Has, "number 77"), is(warpket.Has, "zz"), is(warpket.Eq, "nothing")},
			"TemplateTag": {is(warpket.Eq, "Qiskit"), is(warpket.Eq, "Cirq"), is(warpket.Neq, "Qiskit"), is(warpket.Eq, "nothing")},
			"SDK":         {is(warpket.Eq, "qiskit"), is(warpket.In, "cirq", "nothing"), is(warpket.Nin, "qiskit", "cirq")},
			"SDKVersion":  {is(warpket.Eq, "1.0.0"), is(warpket.Eq, "9.9.9"), is(warpket.Neq, "1.0.0")},
			"CreatedDate": {is(warpket.Gt, recently.Format(time.RFC3339)), is(warpket.Lt, long.Format(time.RFC3339)), is(warpket.Eq, long.Format(time.RFC3339))},
			"UpdatedDate": {is(warpket.Gt, recently.Format(time.RFC3339)), is(warpket.Lt, long.Format(time.RFC3339)), is(warpket.Eq, long.Format(time.RFC3339))},
			"IDs":         {[]warpket.ID{fillFunction, nobody}},
		}, func(f postgres.FunctionFilter, p postgres.Page) ([]warpket.Function, string, error) {
			return s.Functions(ctx, fillProject, f, p)
		}),
		"Executions": listOf(t, map[string][]any{
			"Alias":       {"prod", "nothing"},
			"FunctionID":  {fillFunction, nobody},
			"Version":     {is(warpket.Eq, "1"), is(warpket.Eq, "999999"), is(warpket.In, "0", "999999"), is(warpket.Gt, "1")},
			"Statuses":    {[]warpket.Status{warpket.Failed}, []warpket.Status{warpket.Succeeded}, []warpket.Status{warpket.Lost}, failed, all(warpket.Succeeded), all(warpket.Failed)},
			"Lane":        {warpket.Durable, warpket.Express},
			"Target":      {warpket.CPU, warpket.GPU},
			"RetryOf":     {fillExecution, nobody},
			"Tags":        {[]string{"even"}, []string{"even", "nothing"}},
			"Description": {is(warpket.Has, "nightly"), is(warpket.Eq, "nothing")},
			"CreatedDate": {is(warpket.Gt, recently.Format(time.RFC3339)), is(warpket.Lt, long.Format(time.RFC3339))},
			"Since":       {recently, long},
			"Until":       {recently, long},
			"Functions":   {[]warpket.ID{fillFunction}, []warpket.ID{nobody}},
			"Small":       {true},
		}, func(f postgres.ExecutionFilter, p postgres.Page) ([]warpket.Execution, string, error) {
			return s.Executions(ctx, fillProject, f, p)
		}),
		"Aliases": listOf(t, map[string][]any{
			"FunctionID": {fillFunction, nobody},
			"Version":    {&one, &none},
			"Functions":  {[]warpket.ID{fillFunction}, []warpket.ID{nobody}},
		}, func(f postgres.AliasFilter, p postgres.Page) ([]warpket.Alias, string, error) {
			return s.Aliases(ctx, fillProject, f, p)
		}),
		"Webhooks": listOf(t, map[string][]any{
			"FunctionID": {fillFunction, nobody},
			"Alias":      {"alias-1", "nothing"},
			"Functions":  {[]warpket.ID{fillFunction}, []warpket.ID{nobody}},
		}, func(f postgres.WebhookFilter, p postgres.Page) ([]warpket.Webhook, string, error) {
			return s.Webhooks(ctx, fillProject, f, p)
		}),
		"Schedules": listOf(t, map[string][]any{
			"FunctionID": {fillFunction, nobody},
			"Status":     {warpket.ScheduleStatus("running"), warpket.ScheduleStatus("cancelled")},
			"Name":       {is(warpket.Eq, "s-1"), is(warpket.Has, "nothing")},
			"Alias":      {"", "nothing"},
			"Functions":  {[]warpket.ID{fillFunction}, []warpket.ID{nobody}},
		}, func(f postgres.ScheduleFilter, p postgres.Page) ([]warpket.Schedule, string, error) {
			return s.Schedules(ctx, fillProject, f, p)
		}),
		"Deployments": listOf(t, map[string][]any{
			"FunctionID": {fillFunction, nobody},
			"Status":     {warpket.DeploymentReady, warpket.DeploymentFailed},
			"Version":    {&one, &none},
			"Functions":  {[]warpket.ID{fillFunction}, []warpket.ID{nobody}},
		}, func(f postgres.DeploymentFilter, p postgres.Page) ([]warpket.Deployment, string, error) {
			return s.Deployments(ctx, fillProject, f, p)
		}),
		"Runtimes": listOf(t, map[string][]any{
			"Name":       {is(warpket.Eq, "r-1"), is(warpket.Has, "nothing")},
			"SDK":        {is(warpket.Eq, "qiskit"), is(warpket.In, "nothing", "cirq")},
			"SDKVersion": {is(warpket.Eq, "1.0.0"), is(warpket.Neq, "1.0.0")},
			"Status":     {is(warpket.Eq, "available"), is(warpket.Eq, "failed")},
			"Public":     {&yes, &no},
			"Created":    {&yes, &no},
		}, func(f postgres.RuntimeFilter, p postgres.Page) ([]warpket.Runtime, string, error) {
			return s.Runtimes(ctx, fillProject, f, p)
		}),
		"Acts": listOf(t, map[string][]any{
			"ProjectID": {fillProject, nobody},
			"TokenID":   {fillToken, nobody},
			"Member":    {"ada", "nothing"},
			"Operation": {"create-function", "delete-token"},
			"Subject":   {"functions/1", "nothing"},
			"Outcome":   {postgres.ActSucceeded, postgres.ActFailed},
			"Since":     {long},
			"Until":     {recently},
		}, func(f postgres.ActFilter, p postgres.Page) ([]warpket.Act, string, error) { return s.Acts(ctx, f, p) }),
		"Workers": listOf(t, map[string][]any{
			"Version": {&one, &none},
		}, func(f postgres.WorkerFilter, p postgres.Page) ([]warpket.Worker, string, error) {
			return s.Workers(ctx, fillProject, fillFunction, f, p)
		}),
		"UsageByFunction": listOf(t, map[string][]any{
			"Since":     {recently},
			"Until":     {time.Now()},
			"Functions": {[]warpket.ID{fillFunction}, []warpket.ID{nobody}},
		}, func(f postgres.UsageFilter, p postgres.Page) ([]postgres.Usage, string, error) {
			if f.Until.IsZero() {
				f.Until = time.Now()
			}
			if f.Since.IsZero() {
				f.Since = recently
			}
			return s.UsageByFunction(ctx, fillProject, f, p)
		}),
		"Tokens": listOf(t, map[string][]any{
			"Member": {"ada", "nothing"},
			"Name":   {is(warpket.Eq, "t-1"), is(warpket.Has, "nothing"), is(warpket.In, "t-1", "nothing")},
		}, func(f postgres.TokenFilter, p postgres.Page) ([]warpket.Token, string, error) {
			return s.Tokens(ctx, fillProject, f, p)
		}),
		"Versions": listOf(t, map[string][]any{
			"Description": {is(warpket.Eq, "nothing"), is(warpket.Has, "nothing"), is(warpket.Neq, "nothing")},
			"CreatedDate": {is(warpket.Gt, recently.Format(time.RFC3339)), is(warpket.Lt, long.Format(time.RFC3339)), is(warpket.Eq, long.Format(time.RFC3339))},
		}, func(f postgres.VersionFilter, p postgres.Page) ([]warpket.Version, string, error) {
			return s.Versions(ctx, fillProject, fillFunction, f, p)
		}),
		"Members": listOf(t, names("m-1"), func(f named, p postgres.Page) ([]warpket.ProjectMember, string, error) {
			return s.Members(ctx, fillProject, f.Name, p)
		}),
		"Projects": listOf(t, names("p-1"), func(f named, p postgres.Page) ([]warpket.Project, string, error) {
			return s.Projects(ctx, f.Name, p)
		}),
		"Nodes": listOf(t, map[string][]any{
			"Live":     {&yes, &no},
			"Cordoned": {&yes, &no},
			"Labels":   {map[string]string{"room": "nothing"}},
		}, func(f postgres.NodeFilter, p postgres.Page) ([]warpket.Node, string, error) {
			return s.Nodes(ctx, f, p)
		}),
		"Devices": listOf(t, map[string][]any{
			"Kind":   {warpket.NVIDIA, warpket.DeviceKind("nothing")},
			"NodeID": {nobody},
			"Free":   {&yes, &no},
			"Name":   {is(warpket.Has, "nothing")},
			"Memory": {is(warpket.Gte, "1")},
		}, func(f postgres.DeviceFilter, p postgres.Page) ([]warpket.NodeDevice, string, error) {
			return s.Devices(ctx, f, p)
		}),
		"Secrets": listOf(t, names("S_1"), func(f named, p postgres.Page) ([]warpket.StoredSecret, string, error) {
			return s.Secrets(ctx, fillProject, f.Name, p)
		}),
		"UsageByDay": listOf(t, nil, func(nothing, postgres.Page) ([]postgres.Usage, string, error) {
			days, err := s.UsageByDay(ctx, fillProject, postgres.UsageFilter{Since: recently, Until: time.Now()})
			return days, "", err
		}),
	}
}

// statement is one that the store has run.
type statement struct {
	sql      string
	args     []any
	settings string // statement before it in its batch, which says how to plan it; or empty
}

// seen is a tracer that keeps what is run.
type seen struct {
	mu         sync.Mutex
	statements []statement
	settings   string // of the batch that is run
}

func (s *seen) take() []statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.statements
	s.statements = nil
	return taken
}

func (s *seen) add(sql string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(sql, "set_config('plan_cache_mode'") {
		s.settings = sql
		return
	}
	s.statements = append(s.statements, statement{sql, args, s.settings})
}

func (s *seen) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.add(data.SQL, data.Args)
	return ctx
}

func (s *seen) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *seen) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (s *seen) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	s.add(data.SQL, data.Args)
}

func (s *seen) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = ""
}

// plan is a node of what explain tells.
type plan struct {
	Type      string  `json:"Node Type"`
	Relation  string  `json:"Relation Name"`
	Rows      float64 `json:"Actual Rows"`
	Loops     float64 `json:"Actual Loops"`
	Filtered  float64 `json:"Rows Removed by Filter"`
	Rechecked float64 `json:"Rows Removed by Index Recheck"`
	Plans     []plan  `json:"Plans"`
}

// fewRows are tables that hold few rows whatever a tenant does: usage_events is
// emptied every minute.
var fewRows = []string{"usage_events", "execution_counts_until"}

// looked adds up how many rows were looked at, and names the tables that were
// looked through. A month without executions may be.
func (p plan) looked() (rows float64, through []string) {
	if p.Relation != "" && !slices.Contains(fewRows, p.Relation) {
		rows = (p.Rows + p.Filtered + p.Rechecked) * p.Loops
		if strings.Contains(p.Type, "Seq Scan") && rows > 0 {
			through = append(through, p.Relation)
		}
	}
	for _, child := range p.Plans {
		n, more := child.looked()
		rows, through = rows+n, append(through, more...)
	}
	return rows, through
}

// look has Postgres run the statement with the plan that the store gets, and
// says what is wrong with it.
func (s statement) look(t *testing.T, conn *pgx.Conn, most int) string {
	t.Helper()
	literals := make([]string, len(s.args))
	for i, arg := range s.args {
		literals[i] = literal(arg)
	}
	call := "execute looked"
	if len(literals) > 0 {
		call += "(" + strings.Join(literals, ", ") + ")"
	}
	tx, err := conn.Begin(t.Context()) // for which the settings hold
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := conn.Exec(t.Context(), "rollback; deallocate looked", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}()
	for _, sql := range []string{"set local plan_cache_mode = force_generic_plan", s.settings, "prepare looked as " + s.sql} {
		if _, err := tx.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%v: %s", err, sql)
		}
	}
	var text []byte
	if err := tx.QueryRow(t.Context(), "explain (analyze, format json) "+call, pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
		t.Fatalf("%v: %s", err, call)
	}
	var plans []struct{ Plan plan }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	rows, through := plans[0].Plan.looked()
	switch {
	case len(through) > 0:
		return fmt.Sprintf("it looks through %v", through)
	case rows > float64(most):
		return fmt.Sprintf("it looks at %.0f rows: %s", rows, text)
	}
	return ""
}

// literal writes an argument as SQL.
func literal(arg any) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	v := reflect.ValueOf(arg)
	if at, ok := arg.(time.Time); ok {
		return quote(at.Format(time.RFC3339Nano))
	}
	switch {
	case arg == nil:
		return "null"
	case v.Kind() == reflect.Pointer && v.IsNil(), v.Kind() == reflect.Slice && v.IsNil():
		return "null"
	case v.Kind() == reflect.Map:
		text, err := json.Marshal(arg)
		if err != nil {
			return err.Error() // which is no SQL
		}
		return quote(string(text))
	case v.Kind() == reflect.Pointer:
		return literal(v.Elem().Interface())
	case v.Kind() == reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprintf("%q", fmt.Sprint(v.Index(i)))
		}
		return quote("{" + strings.Join(items, ",") + "}")
	}
	return quote(fmt.Sprint(arg))
}
