package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// Environment gives the environment of a function.
func (s *Store) Environment(ctx context.Context, project, function warpket.ID) (warpket.Environment, error) {
	e, err := one(ctx, s.pool, scanEnvironment, `select `+environmentColumns+` from functions f where f.id = $1 and f.project_id = $2`, function, project)
	return e, explain(err, "function", function)
}

// SetEnvironment replaces the environment of a function, which gets a new
// revision unless that changes nothing. check may refuse to replace what it is at
// that moment.
func (s *Store) SetEnvironment(ctx context.Context, project, function warpket.ID, e warpket.Environment, now time.Time, check func(warpket.Environment) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Secrets are locked before functions, as when their values change.
		ids, err := secretIDs(ctx, tx, project, e)
		if err != nil {
			return err
		}
		old, err := one(ctx, tx, scanEnvironment, `select `+environmentColumns+` from functions f where f.id = $1 and f.project_id = $2 for no key update`, function, project)
		if err != nil {
			return err
		}
		if err := check(old); err != nil || old.Equal(e) {
			return err
		}
		if _, err := tx.Exec(ctx, `update functions set variables = $2, updated_date = $3 where id = $1`, function, orEmpty(e.Variables), now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from function_secrets where function_id = $1`, function); err != nil {
			return err
		}
		for variable, name := range e.Secrets {
			if _, err := tx.Exec(ctx, `insert into function_secrets (function_id, variable, secret_id) values ($1, $2, $3)`, function, variable, ids[name]); err != nil {
				return err
			}
		}
		if err := checkEnvironment(ctx, tx, function); err != nil {
			return err
		}
		return revise(ctx, tx, `id = $1`, function)
	})
	return explain(err, "function", function)
}

// secretIDs gives the IDs of an environment's secrets, whose values stay as they
// are until the transaction has ended.
func secretIDs(ctx context.Context, tx pgx.Tx, project warpket.ID, e warpket.Environment) (map[string]warpket.ID, error) {
	names := slices.Collect(maps.Values(e.Secrets))
	rows, err := tx.Query(ctx, `select name, id from secrets where project_id = $1 and name = any ($2) order by id for share`, project, names)
	if err != nil {
		return nil, err
	}
	ids := map[string]warpket.ID{}
	var name string
	var id warpket.ID
	if _, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error { ids[name] = id; return nil }); err != nil {
		return nil, err
	}
	for variable, name := range e.Secrets {
		if ids[name] == "" {
			return nil, warpket.Errorf(warpket.Invalid, "this project has no secret %.80q: create it first, with POST /v1/secrets", name).At("secrets.%s", variable)
		}
	}
	return ids, nil
}

// checkEnvironment checks a function's environment with the sizes that its
// secrets now have.
func checkEnvironment(ctx context.Context, tx pgx.Tx, function warpket.ID) error {
	e, err := one(ctx, tx, scanEnvironment, `select `+environmentColumns+` from functions f where f.id = $1`, function)
	if err != nil {
		return err
	}
	sizes := map[string]int{}
	rows, err := tx.Query(ctx, `select s.name, s.size from function_secrets u join secrets s on s.id = u.secret_id where u.function_id = $1`, function)
	if err != nil {
		return err
	}
	var name string
	var size int
	if _, err = pgx.ForEachRow(rows, []any{&name, &size}, func() error { sizes[name] = size; return nil }); err != nil {
		return err
	}
	return e.Check(sizes)
}

// revise gives functions a new revision: their slots are to be replaced, and
// their deployments are not ready until they are. Every server hears of it when
// the transaction commits.
func revise(ctx context.Context, tx pgx.Tx, where string, args ...any) error {
	ids, err := many(ctx, tx, pgx.RowTo[warpket.ID], `update functions set revision = revision + 1 where `+where+` returning id`, args...)
	if err != nil {
		return err
	}
	if err := degrade(ctx, tx, "the function's configuration has changed; its slots are being replaced", `function_id = any ($2::uuid[]) and slots > 0`, ids); err != nil {
		return err
	}
	for _, id := range ids {
		if err := notify(ctx, tx, FunctionRevised, id); err != nil {
			return err
		}
	}
	return nil
}

// Configuration is what a slot of a function is made of besides the code, at
// one revision.
type Configuration struct {
	Function    warpket.Function // with that revision
	AllowEgress bool             // whether its project may have it
	Variables   map[string]string
	Secrets     []SealedVariable
}

// SealedVariable is a variable whose value is a secret.
type SealedVariable struct {
	Variable   string
	Secret     string
	Ciphertext []byte
}

// Configuration reads all of a function's configuration as it is at one moment.
// It serves the system, not a caller, so it takes no tenant.
func (s *Store) Configuration(ctx context.Context, function warpket.ID) (Configuration, error) {
	// One statement: a first call waits for it, and it has to be of one moment.
	c, err := one(ctx, s.pool, scanConfiguration, `select `+functionColumns+`, variables,
			(select allow_egress from projects p where p.id = project_id),
			coalesce((select jsonb_agg(jsonb_build_object('Variable', u.variable, 'Secret', s.name, 'Ciphertext', encode(s.sealed, 'base64')))
				from function_secrets u join secrets s on s.id = u.secret_id where u.function_id = functions.id), '[]')
		from functions where id = $1`, function)
	return c, explain(err, "function", function)
}

func scanConfiguration(row pgx.CollectableRow) (c Configuration, err error) {
	err = row.Scan(append(functionFields(&c.Function), &c.Variables, &c.AllowEgress, &c.Secrets)...)
	completeFunction(&c.Function)
	return c, err
}

const environmentColumns = `f.variables, coalesce((select jsonb_object_agg(u.variable, s.name) from function_secrets u join secrets s on s.id = u.secret_id where u.function_id = f.id), '{}')`

func scanEnvironment(row pgx.CollectableRow) (e warpket.Environment, err error) {
	err = row.Scan(&e.Variables, &e.Secrets)
	return e, err
}

// orEmpty writes no map as an empty object.
func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// listed names the first few of what may be many.
func listed(names []string) string {
	const most = 10
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}
