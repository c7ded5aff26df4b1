package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateAlias adds an alias for versions that exist. Adding the same ID again
// does nothing.
func (s *Store) CreateAlias(ctx context.Context, a warpket.Alias) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := hasFunction(ctx, tx, a.ProjectID, a.FunctionID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `insert into aliases (id, project_id, name, description, function_id, created_date, updated_date) values ($1, $2, $3, $4, $5, $6, $6) on conflict (id) do nothing`,
			a.ID, a.ProjectID, a.Name, a.Description, a.FunctionID, a.CreatedDate)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return insertRoutes(ctx, tx, a)
	})
	if isConstraint(err, "aliases_project_id_name_key") {
		return warpket.Because(warpket.Conflict, err, "this project already has an alias %q: change it with PATCH, or choose another name", a.Name).At("name")
	}
	return explain(err, "alias", a.Name)
}

// hasFunction refuses a function that the project has not. One that it has
// stays until the transaction has ended.
func hasFunction(ctx context.Context, tx pgx.Tx, project, id warpket.ID) error {
	_, err := one(ctx, tx, pgx.RowTo[warpket.ID], `select id from functions where id = $1 and project_id = $2 for key share`, id, project)
	return explain(err, "function", id)
}

func insertRoutes(ctx context.Context, tx pgx.Tx, a warpket.Alias) error {
	for i, r := range a.Routes {
		_, err := tx.Exec(ctx, `insert into alias_versions (alias_id, function_id, position, version_number, weight) values ($1, $2, $3, $4, $5)`, a.ID, a.FunctionID, i, r.Version, r.Weight)
		if isConstraint(err, "alias_versions_version") {
			return noVersion(err, a.FunctionID, r.Version).At("versions[%d].version", i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// noVersion is the error of what is to point at a version that there is not.
func noVersion(cause error, function warpket.ID, number int) *warpket.Error {
	return warpket.Because(warpket.Invalid, cause, "function %s has no version %d: see GET /v1/functions/%s/versions", function, number, function)
}

// Alias gives an alias of the project by its name.
func (s *Store) Alias(ctx context.Context, project warpket.ID, name string) (warpket.Alias, error) {
	a, err := one(ctx, s.pool, scanAlias, `select `+aliasColumns+` from aliases a where a.project_id = $1 and a.name = $2`, project, name)
	return a, explain(err, "alias", name)
}

// AliasFilter narrows a list of aliases. Zero fields do not.
type AliasFilter struct {
	FunctionID warpket.ID
	Version    *int         // those that stand for this version of the function, which is then needed
	Functions  []warpket.ID // only of these; nil for all
}

// Aliases lists the aliases of a project.
func (s *Store) Aliases(ctx context.Context, project warpket.ID, filter AliasFilter, page Page) ([]warpket.Alias, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`a.project_id = $1 and a.id < $2`, project, before, rows)
	if filter.FunctionID != "" {
		w.and(`a.function_id = $%d`, filter.FunctionID)
	}
	if filter.Version != nil {
		w.and(`exists (select from alias_versions r where r.alias_id = a.id and r.version_number = $%d)`, *filter.Version)
	}
	if filter.Functions != nil {
		w.and(`a.function_id = any ($%d::uuid[])`, filter.Functions)
	}
	items, err := planned(ctx, s.pool, scanAlias, `select `+aliasColumns+` from aliases a where `+w.where.String()+` order by a.id desc limit $3`, w.args...)
	if err != nil {
		return nil, "", explain(err, "alias", "")
	}
	items, next := cut(items, rows, func(a warpket.Alias) warpket.ID { return a.ID })
	return items, next, nil
}

// UpdateAlias lets change alter what an alias stands for and its description;
// concurrent calls take turns. Schedules that name it go along to another function.
func (s *Store) UpdateAlias(ctx context.Context, project warpket.ID, name string, now time.Time, change func(*warpket.Alias) error) (warpket.Alias, error) {
	var a warpket.Alias
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		id, err := one(ctx, tx, pgx.RowTo[warpket.ID], `select id from aliases where project_id = $1 and name = $2 for no key update`, project, name)
		if err != nil {
			return err
		}
		// Only now: a statement that had to wait sees the versions of before.
		if a, err = one(ctx, tx, scanAlias, `select `+aliasColumns+` from aliases a where a.id = $1`, id); err != nil {
			return err
		}
		before := a.FunctionID
		if err := change(&a); err != nil {
			return err
		}
		if err := hasFunction(ctx, tx, project, a.FunctionID); err != nil {
			return err
		}
		if a.FunctionID != before {
			if _, err := tx.Exec(ctx, `with moved as (update schedules set function_id = $3 where project_id = $1 and alias <> '' and alias = $2 returning id)
				insert into outbox (kind, subject_id) select 'schedule', id from moved on conflict do nothing`, project, name, a.FunctionID); err != nil {
				return err
			}
		}
		a.UpdatedDate = now
		if _, err := tx.Exec(ctx, `delete from alias_versions where alias_id = $1`, a.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update aliases set description = $2, function_id = $3, updated_date = $4 where id = $1`, a.ID, a.Description, a.FunctionID, now); err != nil {
			return err
		}
		return insertRoutes(ctx, tx, a)
	})
	return a, explain(err, "alias", name)
}

// DeleteAlias removes an alias that no webhook executes and no schedule that
// still fires. check may refuse what is the alias at that moment.
func (s *Store) DeleteAlias(ctx context.Context, project warpket.ID, name string, check func(warpket.Alias) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		a, err := one(ctx, tx, scanAlias, `select `+aliasColumns+` from aliases a where a.project_id = $1 and a.name = $2 for update of a`, project, name)
		if err != nil {
			return err
		}
		if err := check(a); err != nil {
			return err
		}
		var scheduled bool
		err = tx.QueryRow(ctx, `select exists (select from schedules where project_id = $1 and alias <> '' and alias = $2 and status in ('running', 'paused'))`, project, name).Scan(&scheduled)
		if err != nil {
			return err
		}
		if scheduled {
			return inUse(nil, "schedules", name)
		}
		_, err = tx.Exec(ctx, `delete from aliases where id = $1`, a.ID)
		return err
	})
	if isConstraint(err, "webhooks_alias") {
		return inUse(err, "webhooks", name)
	}
	return explain(err, "alias", name)
}

// inUse is the error of an alias that is to go while things execute it.
func inUse(cause error, what, name string) error {
	return warpket.Because(warpket.Conflict, cause, "%s execute the alias %q, see GET /v1/%s?alias=%s: let them execute something else, or delete them, first", what, name, what, name)
}

const aliasColumns = `a.id, a.project_id, a.name, a.description, a.function_id, a.created_date, a.updated_date,
	(select jsonb_agg(jsonb_build_object('version', r.version_number, 'weight', r.weight) order by r.position) from alias_versions r where r.alias_id = a.id)`

func scanAlias(row pgx.CollectableRow) (a warpket.Alias, err error) {
	err = row.Scan(&a.ID, &a.ProjectID, &a.Name, &a.Description, &a.FunctionID, &a.CreatedDate, &a.UpdatedDate, &a.Routes)
	return a, err
}
