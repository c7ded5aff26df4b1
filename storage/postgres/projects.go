package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// CreateProject adds a project.
func (s *Store) CreateProject(ctx context.Context, p warpket.Project) error {
	_, err := s.pool.Exec(ctx, `insert into projects (id, name, created_date) values ($1, $2, $3)`, p.ID, p.Name, p.CreatedDate)
	return explain(err, "project", p.Name)
}

// EnsureProject gives the project of that name, adding it if there is none.
func (s *Store) EnsureProject(ctx context.Context, p warpket.Project) (warpket.Project, error) {
	_, err := s.pool.Exec(ctx, `insert into projects (id, name, created_date) values ($1, $2, $3) on conflict (name) do nothing`, p.ID, p.Name, p.CreatedDate)
	if err != nil {
		return p, explain(err, "project", p.Name)
	}
	p, err = one(ctx, s.pool, scanProject, `select `+projectColumns+` from projects where name = $1`, p.Name)
	return p, explain(err, "project", p.Name)
}

// Project gives a project by its ID or its name.
func (s *Store) Project(ctx context.Context, idOrName string) (warpket.Project, error) {
	p, err := one(ctx, s.pool, scanProject, `select `+projectColumns+` from projects where id::text = $1 or name = $1`, idOrName)
	return p, explain(err, "project", idOrName)
}

// Projects lists all projects.
func (s *Store) Projects(ctx context.Context, page Page) ([]warpket.Project, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	items, err := many(ctx, s.pool, scanProject, `select `+projectColumns+` from projects where id < $1 order by id desc limit $2`, before, rows)
	if err != nil {
		return nil, "", explain(err, "project", "")
	}
	items, next := cut(items, rows, func(p warpket.Project) warpket.ID { return p.ID })
	return items, next, nil
}

// UpdateProject lets change alter what an operator decides of a project. When
// egress is withdrawn, the functions that have it get a new revision: their
// slots go.
func (s *Store) UpdateProject(ctx context.Context, idOrName string, change func(*warpket.Project)) (warpket.Project, error) {
	var p warpket.Project
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		p, err = one(ctx, tx, scanProject, `select `+projectColumns+` from projects where id::text = $1 or name = $1 for no key update`, idOrName)
		if err != nil {
			return err
		}
		before := p
		change(&p)
		if _, err := tx.Exec(ctx, `update projects set allow_egress = $2, weight = $3, max_priority = $4 where id = $1`, p.ID, p.AllowEgress, p.Weight, p.MaxPriority); err != nil {
			return err
		}
		if before.AllowEgress && !p.AllowEgress {
			return revise(ctx, tx, `project_id = $1 and settings->>'Network' = $2`, p.ID, warpket.Egress)
		}
		return nil
	})
	return p, explain(err, "project", idOrName)
}

const projectColumns = `id, name, allow_egress, created_date, weight, max_priority`

func scanProject(row pgx.CollectableRow) (p warpket.Project, err error) {
	err = row.Scan(&p.ID, &p.Name, &p.AllowEgress, &p.CreatedDate, &p.Weight, &p.MaxPriority)
	return p, err
}

// CreateToken adds a token, whose secret the caller has hashed.
func (s *Store) CreateToken(ctx context.Context, t warpket.Token) error {
	_, err := s.pool.Exec(ctx, `insert into tokens (id, project_id, role, name, secret_hash, created_date) values ($1, $2, $3, $4, $5, $6)`,
		t.ID, orNull(t.ProjectID), t.Role, t.Name, t.SecretHash, t.CreatedDate)
	return explain(err, "token", t.Name)
}

// Token gives a token, revoked or not.
func (s *Store) Token(ctx context.Context, id warpket.ID) (warpket.Token, error) {
	t, err := one(ctx, s.pool, scanToken, `select `+tokenColumns+` from tokens where id = $1`, id)
	return t, explain(err, "token", id)
}

// Tokens lists the tokens of a project that are in force.
func (s *Store) Tokens(ctx context.Context, project warpket.ID, page Page) ([]warpket.Token, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	items, err := many(ctx, s.pool, scanToken, `select `+tokenColumns+` from tokens
		where project_id = $1 and revoked_date is null and id < $2 order by id desc limit $3`, project, before, rows)
	if err != nil {
		return nil, "", explain(err, "token", "")
	}
	items, next := cut(items, rows, func(t warpket.Token) warpket.ID { return t.ID })
	return items, next, nil
}

// RevokeToken ends a project's token. Revoking it again does nothing.
func (s *Store) RevokeToken(ctx context.Context, project, id warpket.ID, now time.Time) error {
	tag, err := s.pool.Exec(ctx, `update tokens set revoked_date = coalesce(revoked_date, $3) where id = $1 and project_id = $2`, id, project, now)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return explain(err, "token", id)
}

//nolint:gosec // the names of columns
const tokenColumns = `id, coalesce(project_id::text, ''), role, name, secret_hash, created_date, revoked_date`

func scanToken(row pgx.CollectableRow) (t warpket.Token, err error) {
	err = row.Scan(&t.ID, &t.ProjectID, &t.Role, &t.Name, &t.SecretHash, &t.CreatedDate, &t.RevokedDate)
	return t, err
}

// orNull writes an empty ID as null.
func orNull(id warpket.ID) any {
	if id == "" {
		return nil
	}
	return string(id)
}
