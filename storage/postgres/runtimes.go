package postgres

import (
	"context"
	"errors"
	"reflect"
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
	r, err = one(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` where r.sdk = $1 and r.sdk_version = $2 and r.python = $3 and r.platform = $4 and r.requirements = $5`,
		r.SDK, r.SDKVersion, r.Python, r.Platform, r.Requirements)
	return r, explain(err, "runtime", r.RuntimeKey)
}

// visible are the runtimes that a project sees, with its ID as $2: shared ones
// and its own.
const visible = `(r.project_id is null or r.public or r.project_id = $2)`

// ProjectRuntime gives a runtime that a project may see: a shared one or its
// own.
func (s *Store) ProjectRuntime(ctx context.Context, project, id warpket.ID) (warpket.Runtime, error) {
	r, err := one(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` where r.id = $1 and `+visible, id, project)
	return r, explain(err, "runtime", id)
}

// Runtime gives a runtime. It serves the system, not a caller, so it takes no
// tenant.
func (s *Store) Runtime(ctx context.Context, id warpket.ID) (warpket.Runtime, error) {
	r, err := one(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` where r.id = $1`, id)
	return r, explain(err, "runtime", id)
}

// FunctionRuntime gives a runtime as it is for a function: trusted if the one
// is that the function was created with. It serves the system, not a caller, so
// it takes no tenant.
func (s *Store) FunctionRuntime(ctx context.Context, function, id warpket.ID) (warpket.Runtime, error) {
	r, err := one(ctx, s.pool, func(row pgx.CollectableRow) (r warpket.Runtime, err error) {
		var until *time.Time
		err = row.Scan(append(runtimeFields(&r, &until), &r.Trusted)...)
		completeRuntime(&r, until)
		return r, err
	}, `select `+runtimeValues+`, coalesce((select c.trusted from functions f join runtimes c on c.id = f.runtime_id where f.id = $2), true) `+runtimeTables+` where r.id = $1`, id, function)
	return r, explain(err, "runtime", id)
}

// RuntimeFilter narrows a list of runtimes. Zero fields do not.
type RuntimeFilter struct {
	Name, SDK, SDKVersion, Status warpket.Condition
	Public                        *bool // whether all projects see it
	Created                       *bool // whether somebody has created it; else it is a build
}

// Runtimes lists the runtimes that a project may see: the shared ones and its
// own.
func (s *Store) Runtimes(ctx context.Context, project warpket.ID, filter RuntimeFilter, page Page) ([]warpket.Runtime, string, error) {
	before, rows, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	c := where(`r.id < $1`, before, rows, project)
	for _, part := range []struct {
		column    string
		condition warpket.Condition
	}{{"r.name", filter.Name}, {"b.sdk", filter.SDK}, {"b.sdk_version", filter.SDKVersion}, {"b.status", filter.Status}} {
		if err := c.compare(part.column, part.condition, nil); err != nil {
			return nil, "", err
		}
	}
	if filter.Public != nil {
		c.and(`(r.public or r.project_id is null) = $%d`, *filter.Public)
	}
	if filter.Created != nil {
		c.and(`(r.base_id is not null or r.image is not null) = $%d`, *filter.Created)
	}
	// Each part is read in the order of its index.
	part := ` and ` + c.where.String() + ` order by r.id desc limit $2)`
	items, err := planned(ctx, s.pool, scanRuntime, `select `+runtimeColumns+` where r.id in (
			(select r.id `+runtimeTables+` where r.project_id = $3`+part+`
			union (select r.id `+runtimeTables+` where (r.public or r.project_id is null)`+part+`
		) order by r.id desc limit $2`, c.args...)
	if err != nil {
		return nil, "", explain(err, "runtime", "")
	}
	items, next := cut(items, rows, func(r warpket.Runtime) warpket.ID { return r.ID })
	return items, next, nil
}

// CreateRuntime adds a runtime that is made of a build or of an image, and
// promises to have that built unless it is there. Adding the same ID again does
// nothing, so a repeated request may call it.
func (s *Store) CreateRuntime(ctx context.Context, r warpket.Runtime) (warpket.Runtime, error) {
	if err := r.Check(); err != nil {
		return r, err
	}
	key := warpket.RuntimeKey{Requirements: string(r.ID)}
	status := warpket.RuntimeAvailable // not looked at: the build has one
	if r.Image != nil {
		key.SDK, key.Platform, status = r.SDK, r.Platform, warpket.RuntimePending
	}
	id := r.ID
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `insert into runtimes (id, sdk, sdk_version, python, platform, requirements, template_tag, status, created_date, updated_date,
				project_id, name, description, public, trusted, base_id, image, credentials)
			values ($1, $2, '', '', $3, $4, '', $5, $6, $6, $7, $8, $9, $10, $11, $12, $13, $14) on conflict (id) do nothing`,
			id, key.SDK, key.Platform, key.Requirements, status, r.CreatedDate, r.ProjectID, r.Name, r.Description, r.Public, r.Trusted, orNull(r.BaseID), r.Image, r.Credentials)
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			if err := promiseBuild(ctx, tx, r.BuildID()); err != nil {
				return err
			}
		}
		r, err = one(ctx, tx, scanRuntime, `select `+runtimeColumns+` where r.id = $1`, id)
		return err
	})
	return r, explain(err, "runtime", id)
}

// promiseBuild promises that what is not available is built; what has failed is
// tried anew.
func promiseBuild(ctx context.Context, tx pgx.Tx, id warpket.ID) error {
	if _, err := tx.Exec(ctx, `update runtimes set status = 'pending', message = '' where id = $1 and status = 'failed'`, id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `insert into outbox (kind, subject_id) select 'build', id from runtimes where id = $1 and status <> 'available' on conflict do nothing`, id)
	return err
}

// UpdateRuntime lets change alter a runtime that the project sees: its name and
// description, and the build or the image that it is made of, which is then
// promised to be built, as is what has failed whatever is changed. Concurrent
// calls take turns. Versions that exist keep what they were made with.
func (s *Store) UpdateRuntime(ctx context.Context, project, id warpket.ID, now time.Time, change func(*warpket.Runtime) error) (warpket.Runtime, error) {
	var r warpket.Runtime
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		r, err = one(ctx, tx, scanRuntime, `select `+runtimeColumns+` where r.id = $1 and `+visible+` for update of r`, id, project)
		if err != nil {
			return err
		}
		before := r
		if err := change(&r); err != nil {
			return err
		}
		if err := r.Check(); err != nil {
			return err
		}
		remade := r.BaseID != before.BaseID || !reflect.DeepEqual(r.Image, before.Image)
		if remade {
			open, err := one(ctx, tx, pgx.RowTo[int], `select count(*) from executions where status in ('queued', 'running') and function_id in (select id from functions where runtime_id = $1)`, id)
			if err != nil {
				return err
			}
			if err := before.CheckRemake(open); err != nil {
				return err
			}
			r.Revision++
		}
		_, err = tx.Exec(ctx, `update runtimes set name = $2, description = $3, base_id = $4, image = $5, credentials = $6, revision = $7, updated_date = $8,
			status = case when $9 and image is not null then 'pending' else status end, message = case when $9 then '' else message end where id = $1`,
			id, r.Name, r.Description, orNull(r.BaseID), r.Image, r.Credentials, r.Revision, now, remade)
		if err != nil {
			return err
		}
		if remade || before.Status == warpket.RuntimeFailed {
			if err := promiseBuild(ctx, tx, r.BuildID()); err != nil {
				return err
			}
		}
		if r, err = one(ctx, tx, scanRuntime, `select `+runtimeColumns+` where r.id = $1`, id); err != nil {
			return err
		}
		return notify(ctx, tx, RuntimeChanged, id)
	})
	return r, explain(err, "runtime", id)
}

// DeleteRuntime removes a created runtime that the project sees, if may lets it
// and no function has it. What it was made of stays for others.
func (s *Store) DeleteRuntime(ctx context.Context, project, id warpket.ID, may func(warpket.Runtime) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		r, err := one(ctx, tx, scanRuntime, `select `+runtimeColumns+` where r.id = $1 and `+visible+` for update of r`, id, project)
		if err != nil {
			return err
		}
		if err := may(r); err != nil {
			return err
		}
		users, err := many(ctx, tx, pgx.RowTo[string], `select name from functions where runtime_id = $1 order by name`, id)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return warpket.Errorf(warpket.Conflict, "runtime %s is still in use by the functions %s: delete them first", id, listed(users))
		}
		for _, sql := range []string{`delete from outbox where kind = 'build' and subject_id = $1`, `delete from runtimes where id = $1`} {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return err
			}
		}
		return notify(ctx, tx, RuntimeChanged, id)
	})
	return explain(err, "runtime", id)
}

// mayUse refuses a runtime for a function whose project does not see it, or that
// nobody has created. The runtime stays until the transaction has ended.
func mayUse(ctx context.Context, tx pgx.Tx, project, runtime warpket.ID) error {
	_, err := one(ctx, tx, pgx.RowTo[warpket.ID], `select r.id from runtimes r where r.id = $1 and `+visible+` and (r.base_id is not null or r.image is not null) for key share`, runtime, project)
	if errors.Is(err, pgx.ErrNoRows) {
		return warpket.Errorf(warpket.Invalid, "there is no runtime %q that somebody has created: GET /v1/runtimes?created=true lists them", runtime).At("runtimeId")
	}
	return err
}

// AwaitedRuntimes gives what runtimes are made of that somebody has created and
// that is neither available nor has failed.
func (s *Store) AwaitedRuntimes(ctx context.Context) ([]warpket.ID, error) {
	ids, err := many(ctx, s.pool, pgx.RowTo[warpket.ID], `select distinct b.id `+runtimeTables+` where (r.base_id is not null or r.image is not null) and b.status in ('pending', 'building')`)
	return ids, explain(err, "runtime", "")
}

// RuntimeCapacity counts the workers that there are for a runtime: those in
// slots that serve, of its functions, or of all if it is a build; and those that
// live nodes keep ready. With a project, slots and workers of others are left
// out; workers that are nobody's yet are not.
func (s *Store) RuntimeCapacity(ctx context.Context, project warpket.ID, r warpket.Runtime) (warpket.Capacity, error) {
	var c warpket.Capacity
	err := s.pool.QueryRow(ctx, `with held as (
			select s.id from slots s where s.status = 'ready' and ($2::uuid is null or s.project_id = $2)
				and case when $3 then s.function_id in (select id from functions where runtime_id = $1) else s.runtime_id = $1 end
		), kept as (
			select coalesce(sum(k.workers), 0) as workers from nodes n, jsonb_to_recordset(n.kept_ready) as k (runtime text, project uuid, workers int)
			where n.lease_until > now() and k.runtime = $4 and (k.project is null or $2::uuid is null or k.project = $2)
		)
		select held.n + kept.workers, held.n + kept.workers - busy.n from (select count(*) as n from held) held, kept,
			(select count(distinct e.slot_id) as n from executions e where e.status = 'running' and e.slot_id in (select id from held)) busy`,
		r.ID, orNull(project), r.Created(), r.String()).Scan(&c.Total, &c.Available)
	return c, explain(err, "runtime", r.ID)
}

// SaveRuntime records how far the building of a runtime is. A lock, once
// written, stays: it is what every node installs.
func (s *Store) SaveRuntime(ctx context.Context, id warpket.ID, status warpket.RuntimeStatus, lock, message string, now time.Time) (warpket.Runtime, error) {
	var r warpket.Runtime
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `update runtimes set status = $2, lock = case when lock = '' then $3 else lock end, message = $4, updated_date = $5 where id = $1`, id, status, lock, message, now)
		if err != nil {
			return err
		}
		if r, err = one(ctx, tx, scanRuntime, `select `+runtimeColumns+` where r.id = $1`, id); err != nil {
			return err
		}
		return notify(ctx, tx, RuntimeChanged, id)
	})
	return r, explain(err, "runtime", id)
}

// What a runtime is made of is told by its build, b: that of a build or of an
// image is the runtime itself.
const (
	runtimeTables = `from runtimes r join runtimes b on b.id = coalesce(r.base_id, r.id)`
	runtimeValues = `r.id, b.sdk, b.sdk_version, b.python, b.platform, b.requirements, b.template_tag, b.locked_until, b.status, b.lock, b.message, r.created_date, r.updated_date, coalesce(r.project_id::text, ''), b.lines,
	r.name, r.description, r.public, r.trusted, coalesce(r.base_id::text, ''), r.image, r.credentials, r.revision`
	runtimeColumns = runtimeValues + ` ` + runtimeTables
)

func scanRuntime(row pgx.CollectableRow) (r warpket.Runtime, err error) {
	var until *time.Time
	err = row.Scan(runtimeFields(&r, &until)...)
	completeRuntime(&r, until)
	return r, err
}

// runtimeFields are where the runtimeValues of a row go.
func runtimeFields(r *warpket.Runtime, until **time.Time) []any {
	return []any{
		&r.ID, &r.SDK, &r.SDKVersion, &r.Python, &r.Platform, &r.Requirements, &r.TemplateTag, until, &r.Status, &r.Lock, &r.Message, &r.CreatedDate, &r.UpdatedDate, &r.ProjectID, &r.Lines,
		&r.Name, &r.Description, &r.Public, &r.Trusted, &r.BaseID, &r.Image, &r.Credentials, &r.Revision,
	}
}

func completeRuntime(r *warpket.Runtime, until *time.Time) {
	if until != nil {
		r.LockedUntil = *until
	}
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
