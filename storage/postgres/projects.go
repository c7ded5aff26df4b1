package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateProject adds a project.
func (s *Store) CreateProject(ctx context.Context, p warpket.Project) error {
	_, err := s.pool.Exec(ctx, `insert into projects (id, name, created_date, description, updated_date) values ($1, $2, $3, $4, $3)`, p.ID, p.Name, p.CreatedDate, p.Description)
	return explain(err, "project", p.Name)
}

// EnsureProject gives the project of that name, adding it if there is none.
func (s *Store) EnsureProject(ctx context.Context, p warpket.Project) (warpket.Project, error) {
	_, err := s.pool.Exec(ctx, `insert into projects (id, name, created_date, updated_date) values ($1, $2, $3, $3) on conflict (name) do nothing`, p.ID, p.Name, p.CreatedDate)
	if err != nil {
		return p, explain(err, "project", p.Name)
	}
	p, err = one(ctx, s.pool, scanProject, `select `+projectColumns+` from projects where name = $1`, p.Name)
	return p, explain(err, "project", p.Name)
}

// Project gives a project by its ID or its name.
func (s *Store) Project(ctx context.Context, idOrName string) (warpket.Project, error) {
	p, err := one(ctx, s.pool, scanProject, `select `+projectColumns+` from projects where (id::text = $1 or name = $1) and deleted_date is null`, idOrName)
	return p, explain(err, "project", idOrName)
}

// Projects lists all projects, or those with such a name.
func (s *Store) Projects(ctx context.Context, name warpket.Condition, page Page) ([]warpket.Project, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	w := where(`id < $1 and deleted_date is null`, before, rows)
	if err := w.compare(`name`, name, nil); err != nil {
		return nil, "", err
	}
	items, err := planned(ctx, s.pool, scanProject, `select `+projectColumns+` from projects where `+w.where.String()+` order by id desc limit $2`, w.args...)
	if err != nil {
		return nil, "", explain(err, "project", "")
	}
	items, next := cut(items, rows, func(p warpket.Project) warpket.ID { return p.ID })
	return items, next, nil
}

// UpdateProject lets change alter what an operator decides of a project. When
// egress is withdrawn, the functions that have it get a new revision: their
// slots go.
func (s *Store) UpdateProject(ctx context.Context, idOrName string, now time.Time, change func(*warpket.Project) error) (warpket.Project, error) {
	var p warpket.Project
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		// Whoever sets up or deploys a function locks it, its deployments, and then
		// its project. So those that may lose their network are locked first here, too.
		if _, err := tx.Exec(ctx, `with reaching as materialized (select f.id from functions f join projects p on p.id = f.project_id
				where (p.id::text = $1 or p.name = $1) and p.allow_egress and f.settings->>'Network' = $2 order by f.id for update of f)
			select from deployments where function_id in (select id from reaching) and status = 'ready' order by id for update`, idOrName, warpket.Egress); err != nil {
			return err
		}
		p, err = one(ctx, tx, scanProject, `select `+projectColumns+` from projects where (id::text = $1 or name = $1) and deleted_date is null for no key update`, idOrName)
		if err != nil {
			return err
		}
		before := p
		if err := change(&p); err != nil {
			return err
		}
		p.UpdatedDate = now
		if _, err := tx.Exec(ctx, `update projects set allow_egress = $2, description = $3, updated_date = $4, weight = $5, max_priority = $6 where id = $1`, p.ID, p.AllowEgress, p.Description, now, p.Weight, p.MaxPriority); err != nil {
			return err
		}
		if before.AllowEgress && !p.AllowEgress {
			return revise(ctx, tx, `project_id = $1 and settings->>'Network' = $2`, p.ID, warpket.Egress)
		}
		return nil
	})
	return p, explain(err, "project", idOrName)
}

const projectColumns = `id, name, allow_egress, created_date, description, updated_date, weight, max_priority`

func scanProject(row pgx.CollectableRow) (p warpket.Project, err error) {
	err = row.Scan(&p.ID, &p.Name, &p.AllowEgress, &p.CreatedDate, &p.Description, &p.UpdatedDate, &p.Weight, &p.MaxPriority)
	return p, err
}

// orNull writes an empty ID as null.
func orNull(id warpket.ID) any {
	if id == "" {
		return nil
	}
	return string(id)
}
