package postgres

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateFunction adds a function and its first version in one step. Adding the
// same ID again does nothing, so a repeated request may call it.
func (s *Store) CreateFunction(ctx context.Context, f warpket.Function, v warpket.Version) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `insert into functions (id, project_id, name, description, template_tag, sdk, sdk_version, settings, next_version, created_date, updated_date)
			values ($1, $2, $3, $4, $5, $6, $7, $8, 2, $9, $9) on conflict (id) do nothing`,
			f.ID, f.ProjectID, f.Name, f.Description, f.TemplateTag, f.SDK, f.SDKVersion, f.Settings, f.CreatedDate)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if f.Settings.Network == warpket.Egress {
			if err := mayEgress(ctx, tx, f.ProjectID); err != nil {
				return err
			}
		}
		if err := within(ctx, tx, f.ProjectID, warpket.FunctionLimit, 1, countFunctions, f.CreatedDate); err != nil {
			return err
		}
		v.Number = 1
		return insertVersion(ctx, tx, v)
	})
	if isConstraint(err, "functions_project_id_name_key") {
		return warpket.Because(warpket.Conflict, err, "this project already has a function %q: choose another name, or publish a new version of that one", f.Name).At("functionName")
	}
	return explain(err, "function", f.Name)
}

// Function gives a function of the project, by its ID.
func (s *Store) Function(ctx context.Context, project, id warpket.ID) (warpket.Function, error) {
	f, err := one(ctx, s.pool, scanFunction, `select `+functionColumns+` from functions where id = $1 and project_id = $2`, id, project)
	return f, explain(err, "function", id)
}

// FunctionFilter narrows a list of functions. Zero fields do not.
type FunctionFilter struct {
	Name        string
	TemplateTag string
	IDs         []warpket.ID // only these; nil for all
}

// Functions lists the functions of a project.
func (s *Store) Functions(ctx context.Context, project warpket.ID, filter FunctionFilter, page Page) ([]warpket.Function, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	items, err := many(ctx, s.pool, scanFunction, `select `+functionColumns+` from functions
		where project_id = $1 and id < $2 and ($3 = '' or name = $3) and ($4 = '' or template_tag = $4) and ($6::uuid[] is null or id = any ($6))
		order by id desc limit $5`, project, before, filter.Name, filter.TemplateTag, rows, filter.IDs)
	if err != nil {
		return nil, "", explain(err, "function", "")
	}
	items, next := cut(items, rows, func(f warpket.Function) warpket.ID { return f.ID })
	return items, next, nil
}

// UpdateFunction lets change alter the function; concurrent calls take turns.
func (s *Store) UpdateFunction(ctx context.Context, project, id warpket.ID, now time.Time, change func(*warpket.Function) error) (warpket.Function, error) {
	var f warpket.Function
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		f, err = one(ctx, tx, scanFunction, `select `+functionColumns+` from functions where id = $1 and project_id = $2 for update`, id, project)
		if err != nil {
			return err
		}
		before := f.Settings
		if err := change(&f); err != nil {
			return err
		}
		if f.Settings.NeedNewSlots(before) {
			f.Revision++
			if err := revise(ctx, tx, `id = $1`, id); err != nil {
				return err
			}
		}
		if f.Settings.Network == warpket.Egress && before.Network != warpket.Egress {
			if err := mayEgress(ctx, tx, project); err != nil {
				return err
			}
		}
		f.UpdatedDate = now
		_, err = tx.Exec(ctx, `update functions set name = $2, description = $3, settings = $4, updated_date = $5 where id = $1`, id, f.Name, f.Description, f.Settings, now)
		return err
	})
	if isConstraint(err, "functions_project_id_name_key") {
		return f, warpket.Because(warpket.Conflict, err, "this project already has a function %q: choose another name", f.Name).At("functionName")
	}
	return f, explain(err, "function", id)
}

// mayEgress refuses what the project may not have. The project stays as it is
// until the transaction has ended.
func mayEgress(ctx context.Context, tx pgx.Tx, project warpket.ID) error {
	var may bool
	if err := tx.QueryRow(ctx, `select allow_egress from projects where id = $1 for share`, project).Scan(&may); err != nil || may {
		return err
	}
	return warpket.Errorf(warpket.Denied, "this project's functions may not reach the network: ask an operator to allow it, with PATCH /v1/projects/%s {\"allowEgress\": true}", project).At("network")
}

// Deleted is what a deleted function leaves behind, for the caller to end.
type Deleted struct {
	Executions  []warpket.ID
	Deployments []warpket.ID
	Slots       []warpket.Slot
}

// DeleteFunction deletes a function with its versions. It refuses while an
// execution is open, unless forced. Executions stay listed.
func (s *Store) DeleteFunction(ctx context.Context, project, id warpket.ID, force bool) (left Deleted, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := one(ctx, tx, scanFunction, `select `+functionColumns+` from functions where id = $1 and project_id = $2 for update`, id, project); err != nil {
			return err
		}
		left.Executions, err = many(ctx, tx, pgx.RowTo[warpket.ID], `select id from executions where function_id = $1 and status in ('queued', 'running')`, id)
		if err != nil {
			return err
		}
		if n := len(left.Executions); n > 0 && !force {
			return warpket.Errorf(warpket.Conflict, "%d executions of this function are queued or running: wait for them, cancel them, or delete with ?force=true", n)
		}
		left.Deployments, err = many(ctx, tx, pgx.RowTo[warpket.ID], `select id from deployments where function_id = $1`, id)
		if err != nil {
			return err
		}
		if left.Slots, err = many(ctx, tx, scanSlot, `select `+slotColumns+` from slots where function_id = $1`, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update slots set deployment_id = null where function_id = $1`, id); err != nil {
			return err
		}
		for _, sql := range []string{
			`delete from outbox where kind = 'deploy' and subject_id in (select id from deployments where function_id = $1)`,
			`delete from deployments where function_id = $1`,
			`delete from versions where function_id = $1`,
			`delete from functions where id = $1`,
		} {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return err
			}
		}
		return nil
	})
	return left, explain(err, "function", id)
}

const functionColumns = `id, project_id, name, description, template_tag, sdk, sdk_version, settings, next_version, revision, created_date, updated_date,
	(select n.image from versions v join snapshots n on n.id = v.snapshot_id where v.function_id = functions.id order by v.number desc limit 1)`

func scanFunction(row pgx.CollectableRow) (f warpket.Function, err error) {
	err = row.Scan(functionFields(&f)...)
	completeFunction(&f)
	return f, err
}

// functionFields are where the functionColumns of a row go.
func functionFields(f *warpket.Function) []any {
	return []any{&f.ID, &f.ProjectID, &f.Name, &f.Description, &f.TemplateTag, &f.SDK, &f.SDKVersion, &f.Settings, &f.NextVersion, &f.Revision, &f.CreatedDate, &f.UpdatedDate, &f.Image}
}

// completeFunction sets what functions lack that are older than a setting.
func completeFunction(f *warpket.Function) {
	f.Settings.Network = cmp.Or(f.Settings.Network, warpket.NoNetwork)
}
