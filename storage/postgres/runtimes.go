package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// EnsureRuntime gives the runtime of r's key, adding it if there is none: as
// pending, or available if it is of images, for which nothing is built.
func (s *Store) EnsureRuntime(ctx context.Context, r warpket.Runtime) (warpket.Runtime, error) {
	status := warpket.RuntimePending
	if r.OfImages() {
		status = warpket.RuntimeAvailable
	}
	_, err := s.pool.Exec(ctx, `insert into runtimes (id, sdk, sdk_version, python, platform, requirements, template_tag, locked_until, status, created_date, updated_date, project_id, lines)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $12, $9, $9, $10, $11) on conflict (sdk, sdk_version, python, platform, requirements) do nothing`,
		r.ID, r.SDK, r.SDKVersion, r.Python, r.Platform, r.Requirements, r.TemplateTag, orNever(r.LockedUntil), r.CreatedDate, orNull(r.ProjectID), orNone(r.Lines), status)
	if err != nil {
		return r, explain(err, "runtime", r.RuntimeKey)
	}
	r, err = one(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` from runtimes where sdk = $1 and sdk_version = $2 and python = $3 and platform = $4 and requirements = $5`,
		r.SDK, r.SDKVersion, r.Python, r.Platform, r.Requirements)
	return r, explain(err, "runtime", r.RuntimeKey)
}

// ProjectRuntime gives a runtime that a project may see: a shared one or its
// own.
func (s *Store) ProjectRuntime(ctx context.Context, project, id warpket.ID) (warpket.Runtime, error) {
	r, err := one(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` from runtimes where id = $1 and (project_id is null or project_id = $2)`, id, project)
	return r, explain(err, "runtime", id)
}

// Runtime gives a runtime. It serves the system, not a caller, so it takes no
// tenant.
func (s *Store) Runtime(ctx context.Context, id warpket.ID) (warpket.Runtime, error) {
	r, err := one(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` from runtimes where id = $1`, id)
	return r, explain(err, "runtime", id)
}

// Runtimes lists the runtimes that a project may see: the shared ones and its
// own.
func (s *Store) Runtimes(ctx context.Context, project warpket.ID, page Page) ([]warpket.Runtime, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	items, err := many(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` from runtimes where id < $1 and (project_id is null or project_id = $3) order by id desc limit $2`, before, rows, project)
	if err != nil {
		return nil, "", explain(err, "runtime", "")
	}
	items, next := cut(items, rows, func(r warpket.Runtime) warpket.ID { return r.ID })
	return items, next, nil
}

// SaveRuntime records how far the building of a runtime is. A lock, once
// written, stays: it is what every node installs.
func (s *Store) SaveRuntime(ctx context.Context, id warpket.ID, status warpket.RuntimeStatus, lock, message string, now time.Time) (warpket.Runtime, error) {
	var r warpket.Runtime
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		r, err = one(ctx, tx, scanRuntime, `update runtimes set status = $2, lock = case when lock = '' then $3 else lock end, message = $4, updated_date = $5
			where id = $1 returning `+runtimeColumns, id, status, lock, message, now)
		if err != nil {
			return err
		}
		return notify(ctx, tx, RuntimeChanged, id)
	})
	return r, explain(err, "runtime", id)
}

const runtimeColumns = `id, sdk, sdk_version, python, platform, requirements, template_tag, locked_until, status, lock, message, created_date, updated_date, coalesce(project_id::text, ''), lines`

func scanRuntime(row pgx.CollectableRow) (r warpket.Runtime, err error) {
	var until *time.Time
	err = row.Scan(&r.ID, &r.SDK, &r.SDKVersion, &r.Python, &r.Platform, &r.Requirements, &r.TemplateTag, &until, &r.Status, &r.Lock, &r.Message, &r.CreatedDate, &r.UpdatedDate, &r.ProjectID, &r.Lines)
	if until != nil {
		r.LockedUntil = *until
	}
	return r, err
}

// orNone writes no list as an empty one.
func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// orNever writes the zero time as null.
func orNever(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
