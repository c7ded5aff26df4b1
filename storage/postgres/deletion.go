package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// DeleteProject takes a project out of reach, in one step: nobody finds it, its
// tokens hold no longer, and its name is free. What it has is taken apart
// afterwards, see DeletedProjects. It refuses while there are functions, unless
// forced.
func (s *Store) DeleteProject(ctx context.Context, idOrName string, force bool, now time.Time, check func(warpket.Project) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Whoever is adding something to it is waited for.
		p, err := one(ctx, tx, scanProject, `select `+projectColumns+` from projects where (id::text = $1 or name = $1) and deleted_date is null for update`, idOrName)
		if err != nil {
			return err
		}
		if p.Name == warpket.DefaultProject {
			return warpket.Errorf(warpket.Conflict, "the project %s stays: operators work in it unless they name another", p.Name)
		}
		if err := check(p); err != nil {
			return err
		}
		var functions int
		if err := tx.QueryRow(ctx, countFunctions, p.ID).Scan(&functions); err != nil {
			return err
		}
		if functions > 0 && !force {
			return warpket.Errorf(warpket.Conflict, "the project %s has %d functions: delete them first, or delete with ?force=true", p.Name, functions)
		}
		if _, err := tx.Exec(ctx, `update projects set deleted_date = $2, name = 'deleted ' || id where id = $1`, p.ID, now); err != nil {
			return err
		}
		return notify(ctx, tx, ProjectDeleted, p.ID)
	})
	return explain(err, "project", idOrName)
}

// DeletedProjects gives the projects that are still to be taken apart.
func (s *Store) DeletedProjects(ctx context.Context) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from projects where deleted_date is not null order by id limit 100`)
	return ids, explain(err, "project", "")
}

// ProjectFunctions gives the IDs of up to a thousand functions of a project.
func (s *Store) ProjectFunctions(ctx context.Context, project warpket.ID) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select id from functions where project_id = $1 limit 1000`, project)
	return ids, explain(err, "function", "")
}

// PurgeProject removes a part of the records and objects of a deleted project
// whose functions are gone, and at last the project. It reports whether that is
// done. While something of it still runs or holds a slot, nothing is removed.
// What was used, the audit, and public runtimes stay. It may be repeated, by several servers at
// a time.
func (s *Store) PurgeProject(ctx context.Context, project warpket.ID, remove func(context.Context, Object) error) (done bool, err error) {
	var busy bool
	err = s.pool.QueryRow(ctx, `select exists (select from functions where project_id = $1) or exists (select from slots where project_id = $1)
		or exists (select from executions where project_id = $1 and status in ('queued', 'running'))`, project).Scan(&busy)
	if err != nil || busy {
		return false, explain(err, "project", project)
	}
	for {
		var gone int64
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			ids, err := many(ctx, tx, pgx.RowTo[warpket.ID], `delete from executions where id in (select id from executions where project_id = $1 order by id limit 1000 for update skip locked) returning id`, project)
			if err != nil {
				return err
			}
			gone = int64(len(ids))
			_, err = tx.Exec(ctx, `delete from execution_objects where execution_id = any ($1::uuid[])`, ids)
			return err
		})
		if err != nil {
			return false, explain(err, "project", project)
		}
		if gone == 0 {
			break
		}
	}
	for {
		n, err := s.sweep(ctx, `project_id = $1`, project, remove)
		if err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `update runtimes set project_id = null where project_id = $1 and public`, project); err != nil { // other projects' functions have them
			return err
		}
		tag, err := tx.Exec(ctx, `delete from projects where id = $1 and deleted_date is not null`, project)
		done = tag.RowsAffected() > 0
		return err
	})
	return done && err == nil, explain(err, "project", project)
}
